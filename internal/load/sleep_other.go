//go:build !linux

package load

import "time"

// sleeper returns a sleep as exact as the runtime's timers are.
func sleeper() (sleep func(time.Duration), release func()) { return time.Sleep, func() {} }
