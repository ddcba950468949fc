// Package ownnet runs a test in a network namespace of its own, which has
// nothing but a loopback and as few ports for outgoing connections as the test
// says. It takes Linux, and root or user namespaces.
package ownnet
