package conformance

import (
	"slices"
	"strings"
)

// again makes of each case of the parts B to F and K that is played on HTTP/2 one
// that is played on HTTP/3: the same story on another wire. Its run function
// speaks to a Mux, which is of the version that the id begins with; its words and
// rules are translated.
func again(all []Case) []Case {
	var out []Case
	words := words3()
	for _, c := range all {
		if c.version() != h2 || !strings.Contains("BCDEFK", c.Part()) || ofHTTP2(c.ID) {
			continue
		}
		if c.Part() == "B" {
			c.Rows = append([]int{142}, c.Rows...)
		}
		c.ID = h3 + strings.TrimPrefix(c.ID, h2)
		if row := rowOfI(c.ID); row != 0 {
			c.Rows = append([]int{row}, c.Rows...)
		}
		c.RFC, c.Section = rule3(c.RFC, c.Section)
		for _, s := range []*string{&c.Title, &c.Text.Sends, &c.Text.Sees, &c.Text.Rule, &c.Text.Why} {
			*s = words.Replace(*s)
		}
		out = append(out, c)
	}
	return out
}

// ofHTTP2 reports whether a case is about frames, compression or prior knowledge
// of HTTP/2, or about an end that QUIC has no like of. What HTTP/3 has in their
// place is in http3Cases.
func ofHTTP2(id string) bool {
	is, _ := Match([]string{
		"h2/connect/protocol-indexed", "h2/connect/scheme-https-on-cleartext", "h2/connect/trusted-scheme",
		"h2/fields/*-inside-block", "h2/fields/hpack-*", "h2/fields/continuation-*", "h2/fields/section-too-large", "h2/fields/*-on-tunnel",
		"h2/tunnel/padding", "h2/tunnel/frames-beside", "h2/tunnel/unknown-frame-on-stream",
		"h2/end/backend-reset-cancel", "h2/end/client-gone*", "h2/end/data-after-end*", "h2/end/frames-after-reset", "h2/end/refused-early",
	}, id)
	return is
}

// rowOfI is the row of part I that a repeated case stands for beside its own, 0 if
// there is none.
func rowOfI(id string) int {
	for row, ids := range map[int][]string{
		143: {"h3/connect/no-scheme"},
		146: {"h3/connect/unknown-protocol", "h3/connect/unknown-protocol-webtransport", "h3/connect/unknown-protocol-connect-tcp"},
		147: {"h3/end/backend-first", "h3/end/tail-down"},
		149: {"h3/end/client-reset", "h3/end/client-reset-rst"},
		150: {"h3/end/client-first"},
		157: {"h3/backend/never-refused-stream"},
	} {
		if slices.Contains(ids, id) {
			return row
		}
	}
	return 0
}

// rule3 is where HTTP/3 says what a section says of HTTP/2. What is said of HTTP
// or of WebSocket holds for both.
func rule3(rfc, section string) (string, string) {
	switch rfc {
	case "8441": // RFC 9220 section 3: "identical to those in HTTP/2 as defined in [RFC8441]"
		return "9220", "3"
	case "9113":
		rfc = "9114"
	}
	if rfc != "9114" {
		return rfc, section
	}
	return rfc, map[string]string{
		"5.1": "4.1", "5.4.2": "8", "8.1": "4.1", "8.1.1": "4.1.2", "8.2.1": "4.2", "8.2.2": "4.2", "8.2.3": "4.2.1",
		"8.3": "4.3", "8.3.1": "4.3.1", "8.5": "4.4", "8.6": "4.5", "8.7": "4.1.1", "10.5": "10.5",
	}[section]
}

// words3 translates what is said of HTTP/2's frames and codes.
func words3() *strings.Replacer {
	return strings.NewReplacer(
		"RST_STREAM PROTOCOL_ERROR", "RESET_STREAM H3_MESSAGE_ERROR",
		"RST_STREAM CANCEL or CONNECT_ERROR", "RESET_STREAM H3_REQUEST_CANCELLED or H3_CONNECT_ERROR",
		"RST_STREAM with CANCEL", "a stream error H3_REQUEST_CANCELLED",
		"RST_STREAM CANCEL", "RESET_STREAM H3_REQUEST_CANCELLED",
		"REFUSED_STREAM", "H3_REQUEST_REJECTED", "RST_STREAM", "RESET_STREAM", "END_STREAM", "FIN",
		"PING is answered", "a new stream is answered",
		"RFC 9113 section 8.1.1", "RFC 9114 section 4.1.2", "RFC 9113 section 8.2.2", "RFC 9114 section 4.2", "RFC 9113 section 8.1", "RFC 9114 section 4.1",
		"begins with 2 or HTTP/2", "begins with 3 or HTTP/3", "HTTP/2", "HTTP/3",
	)
}
