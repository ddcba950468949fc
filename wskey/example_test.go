package wskey_test

import (
	"fmt"

	"wsgate/wskey"
)

func Example() {
	const key = "dGhlIHNhbXBsZSBub25jZQ==" // what a client sent

	if !wskey.Valid(key) {
		fmt.Println("400 Bad Request")
		return
	}
	answer := wskey.Accept(key)
	fmt.Println("Sec-WebSocket-Accept:", answer)
	fmt.Println("the client agrees:", wskey.Match(answer, key))
	// Output:
	// Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=
	// the client agrees: true
}
