// Command wsgate puts HTTP/1.1-only WebSocket servers behind HTTP/2 and HTTP/1.1
// fronts.
package main

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"wsgate/internal/config"
)

func main() { os.Exit(run(os.Args[1:])) }

// usageError marks what the user typed wrong: exit 2 instead of 1.
type usageError struct{ error }

// run is main with its exit code: 0 all well, 1 the gateway cannot run, 2 usage.
func run(args []string) int {
	root := &cobra.Command{
		Use:   "wsgate",
		Short: "WebSocket over HTTP/2 and HTTP/1.1 in, dedicated HTTP/1.1 out",
		Long: "wsgate puts HTTP/1.1-only WebSocket servers behind HTTP/2 (RFC 8441) and HTTP/1.1.\n" +
			"Each tunnel has a backend connection of its own; ordinary requests are proxied beside it.",
		SilenceErrors: true, SilenceUsage: true,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usageError{fmt.Errorf("unknown command %q; see wsgate --help", args[0])}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetArgs(args)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usageError{fmt.Errorf("%w; see %s --help", err, cmd.CommandPath())}
	})
	root.CompletionOptions.DisableDefaultCmd = false
	root.AddCommand(runCommand(), demoCommand(), checkCommand(), configCommand(), routeCommand(), reloadCommand(), drainCommand(), versionCommand())
	err := root.Execute()
	if err == nil {
		return 0
	}
	var errs config.Errors
	if errors.As(err, &errs) && len(errs) > 0 && errs[0].File != "" {
		fmt.Fprintln(os.Stderr, err) // each has its place
	} else {
		fmt.Fprintln(os.Stderr, "wsgate:", err)
	}
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

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version", Args: noArgs,
		Run: func(cmd *cobra.Command, _ []string) { fmt.Fprintln(cmd.OutOrStdout(), version()) },
	}
}

// version is the module's version and revision as the build recorded them.
func version() string {
	v, revision := "devel", ""
	if info, ok := debug.ReadBuildInfo(); ok {
		if info.Main.Version != "" && info.Main.Version != "(devel)" {
			v = info.Main.Version
		}
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				revision = " " + s.Value
			}
		}
	}
	return fmt.Sprintf("wsgate %s%s %s %s/%s", v, revision, runtime.Version(), runtime.GOOS, runtime.GOARCH)
}
