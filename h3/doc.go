// Package h3 is an HTTP/3 server (RFC 9114, QPACK by RFC 9204 without a dynamic
// table) with WebSocket over extended CONNECT (RFC 9220).
//
// The engine, conn and stream, is a state machine on an event loop: it opens no
// socket, starts no goroutine and reads no clock. It is told of octets and ends by
// calls and answers by calls on quicConn and quicStream, whose one implementation
// stands on quic-go, in quic.go: there alone are goroutines, two for a connection
// and one for a stream, one more while its output waits.
//
// What an extended CONNECT becomes is a bridge.Offer, what an ordinary request
// becomes an exchange.Exchange, as with HTTP/2; the rules of heads are those of
// package head.
package h3
