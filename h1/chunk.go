package h1

import (
	"errors"

	"wsgate/bridge"
	"wsgate/internal/field"
)

// Errors of message content.
var (
	errChunk    = errors.New("malformed chunk")
	errChunkExt = errors.New("chunk extensions over their limit")
	errTrailer  = errors.New("trailers over their limit")
)

// Bounds of the chunked coding.
const (
	maxChunkLine   = 4 << 10  // octets of one chunk-size line with its extensions
	extAllowance   = 16 << 10 // octets of extensions beyond those that content pays for
	maxTrailer     = 16 << 10 // octets of a trailer section
	maxTrailerLine = 100      // fields in it
)

type framing uint8

const (
	frameNone    framing = iota // no content
	frameLength                 // Content-Length
	frameChunked                // Transfer-Encoding: chunked
	frameClose                  // up to the end of the connection
)

type chunkState uint8

const (
	chunkSize    chunkState = iota // in the digits
	chunkBlank                     // in white space before ";"
	chunkExt                       // in the extensions
	chunkSizeLF                    // LF after the size line
	chunkData                      // in the content
	chunkDataCR                    // CR after the content
	chunkDataLF                    // LF after the content
	chunkTrailer                   // in the trailer section
	chunkDone
)

// body decodes message content by RFC 9112 sections 6.3 and 7.1: octets in,
// content out, no buffer but for trailers.
type body struct {
	kind  framing
	left  int64 // of Content-Length, or of the chunk at hand
	ended bool

	state   chunkState
	digits  int    // of the size so far
	line    int    // octets of the size line so far
	ext     int64  // octets of extensions so far, less those that content paid for
	trailer []byte // trailer section as it came, nil while there is none
	mark    int    // where the current trailer line begins
}

func newBody(kind framing, length int64) body {
	b := body{kind: kind, ended: kind == frameNone}
	if kind == frameLength {
		b.left, b.ended = length, length == 0
	}
	return b
}

// next takes octets of p up to one stretch of content of at most limit octets.
// It returns how many octets were taken and the content among them, a part of
// p. With limit 0 it takes framing only. After an error the body is lost.
func (b *body) next(p []byte, limit int) (n int, content []byte, err error) {
	switch {
	case b.ended:
		return 0, nil, nil
	case b.kind == frameClose:
		n = min(len(p), limit)
		return n, p[:n], nil
	case b.kind == frameLength:
		n = int(min(int64(min(len(p), limit)), b.left))
		b.left -= int64(n)
		b.ended = b.left == 0
		return n, p[:n], nil
	}
	for n < len(p) && !b.ended {
		if b.state == chunkData {
			k := int(min(int64(min(len(p)-n, limit)), b.left))
			content = p[n : n+k]
			b.left -= int64(k)
			b.ext = max(0, b.ext-int64(k))
			if b.left == 0 {
				b.state = chunkDataCR
			}
			return n + k, content, nil
		}
		if err = b.octet(p[n]); err != nil {
			return n, nil, err
		}
		n++
	}
	return n, nil, nil
}

// octet is one step through the framing (RFC 9112 section 7.1).
func (b *body) octet(c byte) error {
	switch b.state {
	case chunkSize, chunkBlank, chunkExt:
		return b.sizeLine(c)
	case chunkSizeLF:
		if c != '\n' {
			return errChunk
		}
		b.line, b.digits = 0, 0
		b.state = chunkData
		if b.left == 0 {
			b.state = chunkTrailer
		}
	case chunkDataCR:
		if c != '\r' {
			return errChunk
		}
		b.state = chunkDataLF
	case chunkDataLF:
		if c != '\n' {
			return errChunk
		}
		b.state = chunkSize
	case chunkTrailer:
		return b.trailerOctet(c)
	}
	return nil
}

func (b *body) sizeLine(c byte) error {
	if b.line++; b.line > maxChunkLine {
		return errChunkExt
	}
	if c == '\r' {
		// White space is allowed before an extension only (section 7.1.1).
		if b.digits == 0 || b.state == chunkBlank {
			return errChunk
		}
		b.state = chunkSizeLF
		return nil
	}
	if b.state == chunkSize {
		if v, ok := hexDigit(c); ok {
			// Section 7.1: a recipient must expect large numbers and not
			// overflow. 15 digits hold more than will ever come.
			if b.digits++; b.digits > 15 {
				return errChunk
			}
			b.left = b.left<<4 | int64(v)
			return nil
		}
		if b.digits == 0 {
			return errChunk
		}
		b.state = chunkBlank
	}
	if b.state == chunkBlank {
		switch c {
		case ' ', '\t':
			return nil
		case ';':
			b.state = chunkExt
		default:
			return errChunk
		}
	}
	if c < ' ' && c != '\t' || c == 0x7f {
		return errChunk
	}
	// Section 7.1.1: the total of extensions is limited.
	if b.ext++; b.ext > extAllowance {
		return errChunkExt
	}
	return nil
}

func hexDigit(c byte) (byte, bool) {
	switch {
	case '0' <= c && c <= '9':
		return c - '0', true
	case 'a' <= c|0x20 && c|0x20 <= 'f':
		return c | 0x20 - 'a' + 10, true
	}
	return 0, false
}

// trailerOctet gathers the trailer section (RFC 9112 section 7.1.2).
func (b *body) trailerOctet(c byte) error {
	if len(b.trailer) == maxTrailer {
		return errTrailer
	}
	if b.trailer == nil {
		b.trailer = make([]byte, 0, 64)
	}
	b.trailer = append(b.trailer, c)
	n := len(b.trailer)
	if c != '\n' {
		if n-b.mark >= 2 && b.trailer[n-2] == '\r' {
			return errBareCR
		}
		return nil
	}
	if n-b.mark < 2 || b.trailer[n-2] != '\r' {
		return errBareLF
	}
	if n-b.mark == 2 {
		b.state, b.ended = chunkDone, true
	}
	b.mark = n
	return nil
}

// trailers parses the trailer section of an ended body.
func (b *body) trailers(answer bool) (bridge.Fields, error) {
	if len(b.trailer) <= 2 {
		return nil, nil
	}
	return parseFields(string(b.trailer), fieldRules{answer: answer, max: maxTrailerLine})
}

// coding is what the Transfer-Encoding of a message asks for.
type coding uint8

const (
	codingNone    coding = iota // no Transfer-Encoding
	codingChunked               // chunked alone
	codingUnknown               // chunked last, others before it
	codingFaulty                // chunked not last, or twice, or an empty list
)

// transferCoding reads all Transfer-Encoding lines (RFC 9112 section 6.1).
func transferCoding(f bridge.Fields) coding {
	if f.Count("Transfer-Encoding") == 0 {
		return codingNone
	}
	n, chunked, last := 0, 0, false
	f.Tokens("Transfer-Encoding", func(t string) bool {
		n++
		// Section 7: names of codings compare without regard to letter case.
		if last = field.Same(t, "chunked"); last {
			chunked++
		}
		return true
	})
	switch {
	case !last || chunked > 1:
		return codingFaulty
	case n > 1:
		return codingUnknown
	}
	return codingChunked
}

// back returns the last n octets of the content that next gave: they come again.
func (b *body) back(n int) {
	switch b.kind {
	case frameLength:
		b.left += int64(n)
		b.ended = false
	case frameChunked:
		b.left += int64(n)
		b.state = chunkData
	}
}
