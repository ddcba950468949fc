package h2

import (
	"wsgate/internal/head"
)

// request answers, refuses or serves a new request.
func (c *conn) request(id uint32, end bool) error {
	q, why := head.Parse(c.sh.head.fields)
	extended := q.Extended()
	if why == "" && extended && !c.websocket {
		why = "extended CONNECT was not announced" // RFC 8441 section 3
	}
	if why == "" && q.Method != "CONNECT" && end && q.Length > 0 {
		why = "Content-Length without content" // RFC 9113 section 8.1.1
	}
	if why != "" {
		c.sh.count.Malformed.Add(1)
		if f := c.sh.srv.Rejected; f != nil {
			f(c.client, 0, "malformed: "+why)
		}
		return streamErr(id, errProtocol, why)
	}
	if status, code := c.judge(&q, end); status != 0 {
		c.answer(id, status, code, end)
		return nil
	}
	if extended {
		c.offer(id, &q)
	} else {
		c.serve(id, &q, end)
	}
	return nil
}

// The reason codes of answers of this package; package head has more.
const (
	codeFieldsTooLarge = "fields-too-large"
	codeNoHandler      = "no-handler"
	codeTunnelLimit    = "connection-tunnel-limit"
	codeMemoryLimit    = "memory-limit"
)

// judge returns the status and the reason code of requests that are well-formed
// and yet not served, else 0.
func (c *conn) judge(q *head.Request, end bool) (int, string) {
	if status, code := q.Judge(c.front(), end); status != 0 {
		return status, code
	}
	if c.sh.mem.full() {
		c.sh.count.MemoryLimit.Add(1)
		return 503, codeMemoryLimit
	}
	return 0, ""
}

// front is what the rules of heads have to know of the connection.
func (c *conn) front() head.Front {
	return head.Front{TLS: c.client.TLS != nil, Trusted: c.trusted(), PathDots: c.sh.srv.PathDots}
}
