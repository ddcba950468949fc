package h3

import "fmt"

// ErrCode is a code of RFC 9114 section 8.1 or RFC 9204 section 6.
type ErrCode uint64

const (
	errNone              ErrCode = 0x100 // H3_NO_ERROR
	errGeneral           ErrCode = 0x101 // H3_GENERAL_PROTOCOL_ERROR
	errInternal          ErrCode = 0x102 // H3_INTERNAL_ERROR
	errStreamCreation    ErrCode = 0x103 // H3_STREAM_CREATION_ERROR
	errClosedCritical    ErrCode = 0x104 // H3_CLOSED_CRITICAL_STREAM
	errFrameUnexpected   ErrCode = 0x105 // H3_FRAME_UNEXPECTED
	errFrame             ErrCode = 0x106 // H3_FRAME_ERROR
	errExcessiveLoad     ErrCode = 0x107 // H3_EXCESSIVE_LOAD
	errID                ErrCode = 0x108 // H3_ID_ERROR
	errSettings          ErrCode = 0x109 // H3_SETTINGS_ERROR
	errMissingSettings   ErrCode = 0x10a // H3_MISSING_SETTINGS
	errRequestRejected   ErrCode = 0x10b // H3_REQUEST_REJECTED
	errRequestCancelled  ErrCode = 0x10c // H3_REQUEST_CANCELLED
	errRequestIncomplete ErrCode = 0x10d // H3_REQUEST_INCOMPLETE
	errMessage           ErrCode = 0x10e // H3_MESSAGE_ERROR
	errDecompression     ErrCode = 0x200 // QPACK_DECOMPRESSION_FAILED
	errEncoderStream     ErrCode = 0x201 // QPACK_ENCODER_STREAM_ERROR
	errDecoderStream     ErrCode = 0x202 // QPACK_DECODER_STREAM_ERROR
)

// ConnectionError ends the connection (RFC 9114 section 8).
type ConnectionError struct {
	Code ErrCode
	Why  string
}

func (e *ConnectionError) Error() string {
	return fmt.Sprintf("connection error 0x%x: %s", uint64(e.Code), e.Why)
}

func connErr(code ErrCode, why string) error { return &ConnectionError{code, why} }

// StreamError ends a stream.
type StreamError struct {
	Code ErrCode
	Why  string
}

func (e *StreamError) Error() string {
	return fmt.Sprintf("stream error 0x%x: %s", uint64(e.Code), e.Why)
}

func streamErr(code ErrCode, why string) error { return &StreamError{code, why} }
