package main

import (
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"wsgate/internal/gateway"
)

// adminFlags say where the running gateway listens to its operator.
type adminFlags struct{ address, file string }

func (a *adminFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&a.address, "admin", "", "address of the gateway's admin listener; that of the file, or 127.0.0.1:9901, if left out")
	cmd.Flags().StringVarP(&a.file, "config", "c", "", "configuration file, for its admin.address")
}

// where is the address to ask.
func (a *adminFlags) where() (string, error) {
	switch {
	case a.address != "":
		return a.address, nil
	case a.file == "":
		return "127.0.0.1:9901", nil
	}
	c, err := load(a.file)
	if err != nil {
		return "", err
	}
	if c.Admin.Address == "" {
		return "", fmt.Errorf("%q has no admin.address", a.file)
	}
	return c.Admin.Listen(), nil
}

func (a *adminFlags) ask(target string, q url.Values, out any) error {
	at, err := a.where()
	if err != nil {
		return err
	}
	if len(q) > 0 {
		target += "?" + q.Encode()
	}
	return gateway.Ask(at, target, out)
}

func reloadCommand() *cobra.Command {
	var a adminFlags
	var dry bool
	cmd := &cobra.Command{
		Use: "reload", Short: "Let a running gateway read its file again", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			q := url.Values{}
			if dry {
				q.Set("dry_run", "1")
			}
			var r gateway.Report
			if err := a.ask("/reload", q, &r); err != nil {
				return err
			}
			word := "reloaded"
			if dry {
				word = "would reload"
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s: %d routes; ends %d of %d tunnels; took %s\n", word, r.Routes, r.Ended, r.Tunnels, r.Duration)
			for _, l := range []struct {
				what string
				of   []string
			}{{"opens", r.Opened}, {"closes", r.Closed}, {"needs a restart for", r.Restart}} {
				if len(l.of) > 0 {
					fmt.Fprintf(cmd.OutOrStdout(), "%s %s\n", l.what, strings.Join(l.of, ", "))
				}
			}
			return nil
		},
	}
	a.add(cmd)
	cmd.Flags().BoolVar(&dry, "dry-run", false, "only say what would happen: how many tunnels it would end")
	return cmd
}

func drainCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "drain", Short: "Take a server or a route of a running gateway out, or in again", Args: noArgs,
		Long: "Nothing new goes to what is drained; its tunnels get their Close spread over the drain time.\n" +
			"With --undo it is used again, and tunnels that have not got their Close stay.",
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	var up string
	server := drainOf("server", "/drain/server", "wsgate drain server 10.0.0.7:3000 --upstream chat", func(q url.Values) {
		if up != "" {
			q.Set("upstream", up)
		}
	})
	server.Flags().StringVar(&up, "upstream", "", "of this upstream only")
	cmd.AddCommand(server, drainOf("route", "/drain/route", "wsgate drain route chat", func(url.Values) {}))
	return cmd
}

func drainOf(what, target, example string, more func(url.Values)) *cobra.Command {
	var a adminFlags
	var undo bool
	cmd := &cobra.Command{
		Use: what + " NAME", Short: "Take a " + what + " out", Example: "  " + example,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usageError{errors.New("needs one name of a " + what)}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			q := url.Values{what: {args[0]}}
			more(q)
			if undo {
				q.Set("undo", "1")
			}
			var d gateway.Drained
			if err := a.ask(target, q, &d); err != nil {
				return err
			}
			if undo {
				fmt.Fprintf(cmd.OutOrStdout(), "%s %q is used again; it has %d tunnels\n", what, args[0], d.Tunnels)
			} else {
				fmt.Fprintf(cmd.OutOrStdout(), "%s %q is drained: %d tunnels get their Close\n", what, args[0], d.Tunnels)
			}
			return nil
		},
	}
	a.add(cmd)
	cmd.Flags().BoolVar(&undo, "undo", false, "take it in again")
	return cmd
}
