package h2

import (
	"fmt"
)

// ConnectionError ends the whole connection with GOAWAY (RFC 9113 section
// 5.4.1). It is the Cause of the ResetError that every stream on it gets.
type ConnectionError struct {
	Code   ErrCode
	Reason string
}

func (e *ConnectionError) Error() string {
	return fmt.Sprintf("connection error %v: %s", e.Code, e.Reason)
}

// StreamError ends one stream with RST_STREAM (RFC 9113 section 5.4.2).
type StreamError struct {
	Stream uint32
	Code   ErrCode
	Reason string
}

func (e *StreamError) Error() string {
	return fmt.Sprintf("stream %d: error %v: %s", e.Stream, e.Code, e.Reason)
}

func connErr(code ErrCode, reason string) error { return &ConnectionError{code, reason} }

func streamErr(id uint32, code ErrCode, reason string) error {
	return &StreamError{id, code, reason}
}
