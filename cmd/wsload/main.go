// Command wsload makes WebSocket load over HTTP/1.1 and HTTP/2 and says what it
// costs the gateway under test.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"wsgate/internal/load"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// usageError marks what the user typed wrong: exit 2 instead of 1.
type usageError struct{ error }

// errTrouble is a run whose report already says what went wrong.
var errTrouble = errors.New("there were errors")

// run is main with its exit code: 0 all well; 1 there is no result, or one with
// errors, refused or silent tunnels in it; 2 usage.
func run(ctx context.Context, args []string, out, errs io.Writer) int {
	root := &cobra.Command{
		Use:   "wsload",
		Short: "WebSocket load over HTTP/1.1 and HTTP/2, and what it costs the target",
		Long: "wsload opens many WebSockets through a gateway and measures: how many messages pass, how long they take,\n" +
			"and with --pid the processor time and memory of the gateway. Its own cost is printed beside it.",
		SilenceErrors: true, SilenceUsage: true,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usageError{fmt.Errorf("unknown command %q; see wsload --help", args[0])}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetArgs(args)
	root.SetOut(out)
	root.SetErr(errs)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usageError{fmt.Errorf("%w; see %s --help", err, cmd.CommandPath())}
	})
	for _, k := range kinds() {
		root.AddCommand(loadCommand(k, out, errs))
	}
	root.AddCommand(backendCommand(out))
	err := root.ExecuteContext(ctx)
	switch {
	case err == nil:
		return 0
	case errors.Is(err, errTrouble):
		return 1
	}
	fmt.Fprintln(errs, "wsload:", err)
	if errors.As(err, &usageError{}) {
		return 2
	}
	return 1
}

func noArgs(_ *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usageError{fmt.Errorf("unexpected argument %q", args[0])}
	}
	return nil
}

// backendCommand is the echo server.
func backendCommand(out io.Writer) *cobra.Command {
	listen := "127.0.0.1:9000"
	cmd := &cobra.Command{
		Use:     "backend",
		Short:   "A cheap HTTP/1.1 WebSocket echo server, for the gateway to stand in front of",
		Example: "  wsload backend --listen 127.0.0.1:9000",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ln, err := net.Listen("tcp", listen)
			if err != nil {
				return err
			}
			fmt.Fprintln(out, "listening on", ln.Addr())
			failed := make(chan error, 1)
			go func() { failed <- load.ServeEcho(ln.(*net.TCPListener)) }()
			select {
			case err := <-failed:
				return err
			case <-cmd.Context().Done():
				return nil
			}
		},
	}
	cmd.Flags().StringVar(&listen, "listen", listen, "where to listen")
	return cmd
}
