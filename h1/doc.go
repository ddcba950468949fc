// Package h1 is HTTP/1.1 at both ends of a tunnel (RFC 9112): the front that
// clients send an Upgrade to, and the backend that a dedicated connection is
// opened at for each tunnel, with the opening handshake of RFC 6455 and the
// gate that judges its answer.
//
// # Line ends
//
// A line ends with CRLF. A bare LF and a bare CR are refused wherever they
// stand in a head, in a chunk-size line or in a trailer section, in requests
// (400) and in responses (502) alike: RFC 9112 section 2.2 lets a recipient
// take a single LF, and two that read a message differently is how requests
// are smuggled. One CRLF before a request line is ignored.
//
// # Time and bounds
//
// Every wait has an end and every buffer a bound; the fields of Server and
// Backend name them with their defaults. Connections without a partial head,
// request or answer hold no buffer.
package h1
