// Command wsconform runs the RFC conformance suite against a gateway that bridges
// WebSocket over HTTP/3, HTTP/2 and HTTP/1.1 to an HTTP/1.1 backend.
package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"wsgate/conformance"
)

func main() { os.Exit(run(os.Args[1:])) }

// Exit codes.
const (
	exitGood  = 0
	exitFails = 1 // something failed at the level that counts
	exitUsage = 2 // usage, or a gateway that cannot be reached
)

// errFailed says that cases failed; they have been printed.
var errFailed = errors.New("cases failed")

// run is main with its exit code.
func run(args []string) int {
	root := &cobra.Command{
		Use:   "wsconform",
		Short: "The RFC conformance suite for WebSocket gateways",
		Long: "wsconform plays a client and a backend around a gateway and judges what either sees:\n" +
			"RFC 9220 and RFC 8441 (WebSocket over HTTP/3 and HTTP/2), RFC 9114, RFC 9113, RFC 9112,\n" +
			"RFC 9110 and RFC 6455.\n" +
			"It exits 0 if nothing failed at the level of --fail-on, 1 if something did,\n" +
			"2 for usage, or if the gateway cannot be reached.",
		SilenceErrors: true, SilenceUsage: true,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return fmt.Errorf("unknown command %q; see wsconform --help", args[0])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetArgs(args)
	root.AddCommand(runCommand(), listCommand(), explainCommand(), compareCommand())
	err := root.Execute()
	switch {
	case err == nil:
		return exitGood
	case errors.Is(err, errFailed):
		return exitFails
	}
	fmt.Fprintln(os.Stderr, "wsconform:", err)
	return exitUsage
}

// output is where a report goes: a file, or standard output.
func output(path string, write func(*os.File) error) error {
	if path == "" {
		return write(os.Stdout)
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	return errors.Join(write(f), f.Close())
}

// progress shows a line that changes on standard error, where that is a terminal.
type progress struct{ on bool }

func newProgress() progress {
	info, err := os.Stderr.Stat()
	return progress{err == nil && info.Mode()&os.ModeCharDevice != 0}
}

func (p progress) show(what string, done, total int, r conformance.Result) {
	if p.on {
		fmt.Fprintf(os.Stderr, "\r\x1b[K%s%d/%d %s", what, done, total, r.ID)
	}
}

func (p progress) clear() {
	if p.on {
		fmt.Fprint(os.Stderr, "\r\x1b[K")
	}
}
