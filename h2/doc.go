// Package h2 is an HTTP/2 server (RFC 9113) with WebSocket handshakes over
// extended CONNECT (RFC 8441). It is a state machine on an event loop: it opens
// no socket, starts no goroutine and reads no clock. Octets come from a
// bridge.Side and go to it; a handshake becomes a bridge.Offer, an accepted one
// a bridge.Side, an ordinary request an exchange with an http.Handler.
//
// A connection and all its streams are touched by one loop only. Server.Drain,
// Server.Close and Server.Connections may be called from any goroutine.
package h2
