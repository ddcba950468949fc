package ownnet

import (
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// variable tells the process that Run starts where it is.
const variable = "WSGATE_TEST_NETWORK"

// Run runs test in a namespace where outgoing connections have the ports given,
// as in "40000 40003": the test binary starts itself once more for that, with
// this one test. It fails if the test does, or did not run.
func Run(t *testing.T, ports string, test func(t *testing.T)) {
	t.Helper()
	if os.Getenv(variable) == ports {
		if err := enter(ports); err != nil {
			t.Fatal(err)
		}
		test(t)
		return
	}
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), variable+"="+ports)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	if os.Geteuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("in a network namespace of its own (it takes root, or user namespaces): %v\n%s", err, out)
	}
	if !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Fatalf("got no run of the test in:\n%s", out)
	}
}

// enter brings the loopback up and says which ports outgoing connections have.
func enter(ports string) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	lo.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo); err != nil {
		return err
	}
	return os.WriteFile("/proc/sys/net/ipv4/ip_local_port_range", []byte(ports), 0)
}
