// Package launch starts gateways that are installed on this machine, on loopback
// and with a configuration of its own making, once for each profile of the
// conformance suite.
package launch

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"wsgate/conformance"
)

// Gateway is a kind of gateway.
type Gateway struct {
	Name    string
	Program string   // name or path of its executable
	Package string   // of Debian, for who has not installed it
	Env     []string // what it needs in its environment
	version []string // arguments that make it print its version
	parse   func(output string) string
	setups  map[string]func(*place) (args []string, err error) // by profile
	quit    syscall.Signal                                     // ends it at once; 0 is SIGTERM
	drain   syscall.Signal                                     // makes it drain; 0 if nothing does
}

// place is where a gateway is to stand.
type place struct {
	profile                           string
	Dir                               string // for its files
	HTTPS, HTTP                       string // host:port of its fronts
	Backend                           string // host:port
	BackendScheme                     string
	Cert, Key                         string // files
	Both                              string // both of them in one file
	TLS                               string // folder of the TLS backend's files
	FrontPort, PlainPort, backendPort string
	Reload                            string // made by the set-up: the command for the profile of that name

	program string
}

// Is reports whether it is to stand there for a profile; templates ask.
func (at *place) Is(profile string) bool { return at.profile == profile }

// Find returns a gateway by its name.
func Find(name string) (*Gateway, error) {
	all := Known()
	var names []string
	for i := range all {
		if all[i].Name == name {
			return &all[i], nil
		}
		names = append(names, all[i].Name)
	}
	return nil, fmt.Errorf("no gateway %q; there are %s", name, strings.Join(names, ", "))
}

// Installed looks for its program and returns its version.
func (g *Gateway) Installed() (version string, err error) {
	path, err := exec.LookPath(g.Program)
	if err != nil {
		how := ""
		if g.Package != "" {
			how = "; on Debian: apt-get install " + g.Package
		}
		return "", fmt.Errorf("%s is not installed%s", g.Name, how)
	}
	out, err := exec.Command(path, g.version...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", g.Program, strings.Join(g.version, " "), err, bytes.TrimSpace(out))
	}
	return g.parse(string(out)), nil
}

// Profiles are those that it can be set up for, in the suite's order.
func (g *Gateway) Profiles() (names []string) {
	for _, p := range conformance.Profiles() {
		if g.setups[p.Name] != nil {
			names = append(names, p.Name)
		}
	}
	return names
}

// Process is a running gateway.
type Process struct {
	Front, Plain string // URLs
	Backend      string // host:port that it takes for its backend
	TLSDir       string
	PID          int
	Drain        string // shell command that makes it drain, "" if there is none
	Reload       string // shell command of the profile Reload, "" if there is none

	g    *Gateway
	dir  string
	cmd  *exec.Cmd
	log  *logBuffer
	done chan struct{}
}

// logBuffer keeps the last of what a program prints.
type logBuffer struct {
	mu sync.Mutex
	b  []byte
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.b = append(l.b, p...)
	if len(l.b) > 64<<10 {
		l.b = l.b[len(l.b)-32<<10:]
	}
	return len(p), nil
}

// Log is the last of what it printed.
func (p *Process) Log() string {
	p.log.mu.Lock()
	defer p.log.mu.Unlock()
	return string(p.log.b)
}

// Start starts the gateway for a profile and waits until it serves.
func (g *Gateway) Start(profile string) (*Process, error) {
	setup := g.setups[profile]
	if setup == nil {
		return nil, fmt.Errorf("%s is not set up for the profile %s", g.Name, profile)
	}
	dir, err := os.MkdirTemp("", "wsconform-"+g.Name+"-")
	if err != nil {
		return nil, err
	}
	p := &Process{g: g, dir: dir, log: &logBuffer{}, done: make(chan struct{})}
	if err := p.start(setup, profile); err != nil {
		p.Stop()
		return nil, fmt.Errorf("%s, profile %s: %w", g.Name, profile, err)
	}
	return p, nil
}

func (p *Process) start(setup func(*place) ([]string, error), profile string) error {
	at, err := newPlace(p.dir, profile)
	if err != nil {
		return err
	}
	if at.program, err = exec.LookPath(p.g.Program); err != nil {
		return err
	}
	args, err := setup(at)
	if err != nil {
		return err
	}
	p.Front, p.Plain, p.Backend, p.TLSDir, p.Reload = "https://"+at.HTTPS, "http://"+at.HTTP, at.Backend, at.TLS, at.Reload
	p.cmd = exec.Command(at.program, args...)
	p.cmd.Dir, p.cmd.Env = p.dir, append(os.Environ(), p.g.Env...)
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // workers end with it
	if err := p.cmd.Start(); err != nil {
		p.cmd = nil
		return err
	}
	p.PID = p.cmd.Process.Pid
	if p.g.drain != 0 {
		p.Drain = fmt.Sprintf("kill -%d %d", p.g.drain, p.PID)
	}
	go func() {
		_ = p.cmd.Wait()
		close(p.done)
	}()
	return p.serves(at.HTTPS, at.HTTP)
}

// serves waits until both fronts accept.
func (p *Process) serves(addrs ...string) error {
	deadline := time.Now().Add(10 * time.Second)
	for _, addr := range addrs {
		for {
			c, err := net.DialTimeout("tcp", addr, time.Second)
			if err == nil {
				c.Close()
				break
			}
			select {
			case <-p.done:
				return fmt.Errorf("it ended at once: %s", strings.TrimSpace(p.Log()))
			case <-time.After(20 * time.Millisecond):
			}
			if time.Now().After(deadline) {
				return fmt.Errorf("it does not accept at %s: %s", addr, strings.TrimSpace(p.Log()))
			}
		}
	}
	return nil
}

// Running reports whether it has not ended by itself.
func (p *Process) Running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// Stop ends it and its workers, by their ids, and removes its files.
func (p *Process) Stop() {
	if p.cmd != nil {
		quit := p.g.quit
		if quit == 0 {
			quit = syscall.SIGTERM
		}
		_ = p.cmd.Process.Signal(quit)
		select {
		case <-p.done:
		case <-time.After(300 * time.Millisecond):
		}
		_ = syscall.Kill(-p.PID, syscall.SIGKILL) // its own group
		<-p.done
	}
	os.RemoveAll(p.dir)
}

// newPlace makes files and finds ports.
func newPlace(dir, profile string) (*place, error) {
	at := &place{
		profile: profile, Dir: dir, Cert: filepath.Join(dir, "front.pem"), Key: filepath.Join(dir, "front-key.pem"),
		Both: filepath.Join(dir, "front-both.pem"), TLS: filepath.Join(dir, "tls"),
	}
	// Programs that change their user have to get at it.
	if err := os.Chmod(dir, 0o755); err != nil {
		return nil, err
	}
	if err := errors.Join(conformance.Issue(dir, "front", "localhost"), conformance.MakeTLS(at.TLS)); err != nil {
		return nil, err
	}
	var err error
	for _, port := range []*string{&at.FrontPort, &at.PlainPort, &at.backendPort} {
		if *port, err = freePort(profile); err != nil {
			return nil, err
		}
	}
	at.HTTPS, at.HTTP, at.Backend = "127.0.0.1:"+at.FrontPort, "127.0.0.1:"+at.PlainPort, "127.0.0.1:"+at.backendPort
	at.BackendScheme = "http"
	if profile == conformance.TLSBackend {
		at.BackendScheme = "https"
	}
	return at, nil
}

// freePort finds a port below those that the system gives to connections. Base
// gets even ones and all other profiles odd ones, for they start side by side, and
// some programs share a port without a word.
func freePort(profile string) (string, error) {
	odd := 1
	if profile == conformance.Base {
		odd = 0
	}
	var last error
	for range 100 {
		port := strconv.Itoa(20000 + 2*rand.IntN(6000) + odd)
		if last = free("127.0.0.1:" + port); last == nil {
			return port, nil
		}
	}
	return "", last
}

// free looks whether nobody has a port, of TCP and of UDP.
func free(addr string) error {
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	defer ln.Close()
	pc, err := net.ListenPacket("udp", addr)
	if err != nil {
		return err
	}
	return pc.Close()
}
