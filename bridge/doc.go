// Package bridge is the meaning of the gateway: what a tunnel is.
//
// A front end turns a request into an [Offer]: a WebSocket opening handshake
// freed from the HTTP version that carried it. The [Bridge] asks a [Backend] to
// open the far half over a connection of its own, then accepts or refuses the
// offer. From then on a tunnel joins two sides and carries bytes and ends
// across: an orderly end as an orderly end, anything else as a reset.
//
// # What a peer sees
//
//	after the answer       h1     h2                 h3
//	orderly end            FIN    END_STREAM         FIN
//	anything else          RST    CANCEL (0x8)       H3_REQUEST_CANCELLED (0x10c)
//
// # Rules
//
// No client octet reaches a backend before its 101. Each direction is ended
// once, each side is ended or reset by its owner, the tunnel. The frames of the
// WebSocket protocol are watched, never changed; the gateway's own Close and
// Ping frames go between two frames or not at all.
//
// # Concurrency
//
// A connection and everything that hangs on it is touched by exactly one loop:
// the offer, both sides and the tunnel live on the loop of the front
// connection. Only [Bridge] is used from many.
package bridge
