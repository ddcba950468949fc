// Package load makes WebSocket load over HTTP/1.1 and HTTP/2 and measures what
// it costs the gateway under test. It knows nothing of the gateway: any that
// bridges WebSocket to an HTTP/1.1 backend can be its target.
//
// A run is a scenario (Echo, Open, Idle, Get) played on a fleet: connections,
// each a session in one HTTP version, with tunnels on them. A scenario does not
// know the version; a version does not know the scenario. Another version is one
// more session.
//
// Each session has a goroutine that reads, acts on what it read and writes once
// what came of it. Open-loop load has one more goroutine, the pacer. Who touches
// a session holds its lock.
package load
