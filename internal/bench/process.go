package main

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	mrand "math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"wsgate/internal/load"
)

// process is a started program with those it starts.
type process struct {
	cmd  *exec.Cmd
	said *bufio.Reader // its standard error, of those that are listened to
	out  io.Reader     // its standard output, of those
}

// start runs a program in a process group of its own. Its standard error goes
// to errs; nil: it and the standard output can be read.
func start(errs io.Writer, env []string, name string, args ...string) (*process, error) {
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	p := &process{cmd: cmd}
	if errs != nil {
		cmd.Stderr = errs
	} else {
		pipe, err := cmd.StderrPipe()
		if err != nil {
			return nil, err
		}
		p.said = bufio.NewReader(pipe)
		if p.out, err = cmd.StdoutPipe(); err != nil {
			return nil, err
		}
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return p, nil
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// stop ends the process and all of its group.
func (p *process) stop() {
	_ = syscall.Kill(-p.pid(), syscall.SIGKILL) // gone is fine
	_ = p.cmd.Wait()                            // killed is no error here
}

// interrupt ends a wsload in good order and returns its report.
func (p *process) interrupt() (*load.Report, error) {
	if err := p.cmd.Process.Signal(os.Interrupt); err != nil {
		return nil, err
	}
	r := new(load.Report)
	if err := json.NewDecoder(p.out).Decode(r); err != nil {
		return nil, fmt.Errorf("report of an interrupted wsload: %w", err)
	}
	return r, nil
}

// hear waits for a line of the process that begins so, and returns it.
func (p *process) hear(prefix string) (string, error) {
	var all strings.Builder
	for {
		line, err := p.said.ReadString('\n')
		if strings.HasPrefix(line, prefix) {
			go io.Copy(io.Discard, p.said) // it may say more, and is not to wait for us
			return strings.TrimSpace(line), nil
		}
		all.WriteString(line)
		if err != nil {
			return "", fmt.Errorf("%s ended: %s", filepath.Base(p.cmd.Path), strings.TrimSpace(all.String()))
		}
	}
}

// freePort finds a port below the ephemeral range, so that no outgoing
// connection takes it meanwhile.
func freePort() string {
	for {
		addr := fmt.Sprintf("127.0.0.1:%d", 20000+mrand.IntN(10000))
		if ln, err := net.Listen("tcp", addr); err == nil {
			ln.Close()
			return addr
		}
	}
}

// waitFor waits until something listens there.
func waitFor(ctx context.Context, addr string) error {
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end) && ctx.Err() == nil; time.Sleep(5 * time.Millisecond) {
		if c, err := net.Dial("tcp", addr); err == nil {
			c.Close()
			return nil
		}
	}
	return errors.Join(ctx.Err(), fmt.Errorf("nothing listens on %s", addr))
}

// certificate writes a self-signed ECDSA P-256 certificate and its key to dir,
// apart and together.
func certificate(dir string) (cert, key, both string, err error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", "", "", err
	}
	t := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, &private.PublicKey, private)
	if err != nil {
		return "", "", "", err
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return "", "", "", err
	}
	c := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	k := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})
	cert, key, both = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"), filepath.Join(dir, "both.pem")
	for name, b := range map[string][]byte{cert: c, key: k, both: append(c, k...)} {
		if err := os.WriteFile(name, b, 0o600); err != nil {
			return "", "", "", err
		}
	}
	return cert, key, both, nil
}
