package h2

import "fmt"

// The code points of RFC 9113 are written down here: golang.org/x/net/http2
// would bring a second HTTP/2 stack and golang.org/x/text into the program for them.

const clientPreface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" // RFC 9113 section 3.4

// frameType is a frame type (RFC 9113 section 6).
type frameType uint8

const (
	frameData         frameType = 0x0
	frameHeaders      frameType = 0x1
	framePriority     frameType = 0x2
	frameRSTStream    frameType = 0x3
	frameSettings     frameType = 0x4
	framePushPromise  frameType = 0x5
	framePing         frameType = 0x6
	frameGoaway       frameType = 0x7
	frameWindowUpdate frameType = 0x8
	frameContinuation frameType = 0x9
)

// frame flags (RFC 9113 section 6).
const (
	flagAck        = 0x1 // SETTINGS, PING
	flagEndStream  = 0x1 // DATA, HEADERS
	flagEndHeaders = 0x4 // HEADERS, CONTINUATION
	flagPadded     = 0x8 // DATA, HEADERS
	flagPriority   = 0x20
)

// settings (RFC 9113 section 6.5.2).
const (
	settingTableSize    = 0x1
	settingPush         = 0x2
	settingMaxStreams   = 0x3
	settingWindow       = 0x4
	settingFrameSize    = 0x5
	settingHeaderList   = 0x6
	settingConnect      = 0x8 // RFC 8441 section 3
	settingNoPriorities = 0x9 // RFC 9218 section 2.1
)

// ErrCode is an error code of RFC 9113 section 7.
type ErrCode uint32

const (
	errNone        ErrCode = 0x0
	errProtocol    ErrCode = 0x1
	errInternal    ErrCode = 0x2
	errFlow        ErrCode = 0x3
	errClosed      ErrCode = 0x5
	errSize        ErrCode = 0x6
	errRefused     ErrCode = 0x7
	errCancel      ErrCode = 0x8
	errCompression ErrCode = 0x9
	errCalm        ErrCode = 0xb
)

var errNames = [...]string{
	"NO_ERROR", "PROTOCOL_ERROR", "INTERNAL_ERROR", "FLOW_CONTROL_ERROR", "SETTINGS_TIMEOUT",
	"STREAM_CLOSED", "FRAME_SIZE_ERROR", "REFUSED_STREAM", "CANCEL", "COMPRESSION_ERROR",
	"CONNECT_ERROR", "ENHANCE_YOUR_CALM", "INADEQUATE_SECURITY", "HTTP_1_1_REQUIRED",
}

// String returns the name that RFC 9113 section 7 gives the code.
func (e ErrCode) String() string {
	if int64(e) < int64(len(errNames)) {
		return errNames[e]
	}
	return fmt.Sprintf("code 0x%x", uint32(e))
}
