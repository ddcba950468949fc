package upstream

import (
	"fmt"
	"slices"
	"testing"
)

// BenchmarkChoose: taking a place and giving it back.
func BenchmarkChoose(b *testing.B) {
	cookie := Cookie{Secret: []byte("0123456789abcdef")}
	for _, n := range []int{3, 1000} {
		for _, balance := range []Balance{{Policy: LeastTunnels}, {Policy: RoundRobin}, {Policy: RandomTwo}, {Policy: Hash}, {Policy: Sticky, Cookie: cookie}} {
			b.Run(fmt.Sprint(balance.Policy, "/", n), func(b *testing.B) {
				u := newBench(b, Config{Balance: balance}, slices.Repeat([]int{1}, n)...)
				w := want{}
				if balance.Policy == Sticky {
					w.tag = u.table.Load().list[n/2].tag
				}
				b.ReportAllocs()
				for i := 0; b.Loop(); i++ {
					if balance.Policy == Hash {
						w.keyed, w.key = true, mix(uint64(i))
					}
					u.take(&w).leave(tunnel)
				}
			})
		}
	}
}
