package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"wsgate/internal/config"
	"wsgate/internal/gateway"
	"wsgate/internal/route"
)

func checkCommand() *cobra.Command {
	var file string
	var effective bool
	cmd := &cobra.Command{
		Use: "check", Short: "Check a configuration file and the files that it names", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := load(file)
			if err != nil {
				return err
			}
			if err := gateway.Check(c); err != nil {
				return err
			}
			if !effective {
				fmt.Fprintf(cmd.OutOrStdout(), "%s: good: %d listeners, %d routes, %d upstreams\n", file, len(c.Listeners), len(c.Routes), len(c.Upstreams))
				return nil
			}
			out, err := c.Effective()
			if err == nil {
				_, err = cmd.OutOrStdout().Write(out)
			}
			return err
		},
	}
	cmd.Flags().StringVarP(&file, "config", "c", "wsgate.yaml", "configuration file")
	cmd.Flags().BoolVar(&effective, "effective", false, "print every value that holds, secrets hidden")
	return cmd
}

// load is config.Load with a word for who has no file yet.
func load(file string) (*config.Config, error) {
	c, err := config.Load(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%q is not there; wsgate config init writes a file to begin with", file)
	}
	return c, err
}

func configCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "config", Short: "Begin with, and edit, a configuration file", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	var file string
	begin := &cobra.Command{
		Use: "init", Short: "Write a commented file that runs with a self-signed certificate", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
			if errors.Is(err, fs.ErrExist) {
				return fmt.Errorf("%q is there already and stays as it is; name another with -c", file)
			}
			if err != nil {
				return err
			}
			if _, err := f.Write(config.Sample); err != nil {
				return err
			}
			if err := f.Close(); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s: written; wsgate check -c %s, wsgate run -c %s\n", file, file, file)
			return nil
		},
	}
	begin.Flags().StringVarP(&file, "config", "c", "wsgate.yaml", "file to write")
	cmd.AddCommand(begin, &cobra.Command{
		Use: "schema", Short: "Print the JSON Schema of the file, for editors", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := cmd.OutOrStdout().Write(config.Schema)
			return err
		},
	})
	return cmd
}

// asked is what wsgate route asks for.
type asked struct {
	file, method, listener, kind string
	major                        int
	headers                      []string
	all                          bool
}

func routeCommand() *cobra.Command {
	var a asked
	cmd := &cobra.Command{
		Use: "route URL", Short: "Say which route a request takes, and why",
		Example: "  wsgate route wss://chat.example.com/rooms/7 -c wsgate.yaml\n" +
			"  wsgate route https://example.com/up --method POST --header 'X-Tenant: blue' --http 1",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usageError{errors.New("needs one URL, say https://example.com/chat")}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := load(a.file)
			if err != nil {
				return err
			}
			out, err := a.explain(c, args[0])
			fmt.Fprint(cmd.OutOrStdout(), out)
			return err
		},
	}
	f := cmd.Flags()
	f.StringVarP(&a.file, "config", "c", "wsgate.yaml", "configuration file")
	f.StringVar(&a.method, "method", http.MethodGet, "method")
	f.StringVar(&a.kind, "kind", "", "websocket or http; by the URL's scheme if left out")
	f.IntVar(&a.major, "http", 2, "HTTP version of the client: 1, 2 or 3")
	f.StringArrayVar(&a.headers, "header", nil, "a field, \"Name: value\"; repeats")
	f.StringVar(&a.listener, "listener", "", "name of the listener; the first that fits the scheme if left out")
	f.BoolVar(&a.all, "all", false, "judge every route")
	return cmd
}

// errNoRoute makes wsgate route exit with 1.
var errNoRoute = errors.New("no route takes this request")

// explain answers in lines.
func (a *asked) explain(c *config.Config, raw string) (string, error) {
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" {
		return "", usageError{fmt.Errorf("%q is no URL with a host; say for example https://example.com/chat", raw)}
	}
	q := &route.Request{Listener: a.listener, Authority: u.Host, Target: u.EscapedPath(), Method: a.method, Major: a.major}
	if q.Target == "" {
		q.Target = "/"
	}
	secure := false
	switch u.Scheme {
	case "wss", "https":
		secure = true
	case "ws", "http":
	default:
		return "", usageError{fmt.Errorf("%q has none of the schemes https, http, wss, ws", raw)}
	}
	switch a.kind {
	case "":
		q.WebSocket = strings.HasPrefix(u.Scheme, "ws")
	case "websocket", "http":
		q.WebSocket = a.kind == "websocket"
	default:
		return "", usageError{fmt.Errorf("kind %q is neither websocket nor http", a.kind)}
	}
	h := make(http.Header)
	for _, line := range a.headers {
		name, value, ok := strings.Cut(line, ":")
		if !ok {
			return "", usageError{fmt.Errorf("%q is no field; say for example --header 'X-Tenant: blue'", line)}
		}
		h.Add(name, strings.TrimSpace(value))
	}
	q.Fields = h
	for i := range c.Listeners {
		if l := &c.Listeners[i]; q.Listener == "" && (l.TLS != nil) == secure {
			q.Listener = l.Name
		}
	}
	return a.judge(c, q)
}

func (a *asked) judge(c *config.Config, q *route.Request) (string, error) {
	matches := make([]*config.Match, len(c.Routes))
	for i := range c.Routes {
		matches[i] = &c.Routes[i].Match
	}
	var b strings.Builder
	verdicts := route.Explain(matches, q)
	best := verdicts[0]
	if best.Failed != "" {
		table := route.New(matches)
		if _, known := table.Lookup(q); known {
			fmt.Fprintf(&b, "no route: 404 no-route\n")
		} else {
			fmt.Fprintf(&b, "no route for this host on listener %q: 421 misdirected\n", q.Listener)
		}
	} else {
		r := &c.Routes[best.Index]
		fmt.Fprintf(&b, "route %q (routes[%d]): %s\n  why: %s\n", r.Name, best.Index, action(r), best.Why)
	}
	shown := 0
	for i, v := range verdicts {
		if i == 0 && v.Failed == "" || !a.all && (shown == 3 || v.Failed == "hosts" || v.Failed == "listeners") {
			continue
		}
		shown++
		r := &c.Routes[v.Index]
		if v.Failed == "" {
			fmt.Fprintf(&b, "  also matches, but is less specific: %q (routes[%d]): %s\n", r.Name, v.Index, v.Why)
		} else {
			fmt.Fprintf(&b, "  does not match: %q (routes[%d]): by %s\n", r.Name, v.Index, v.Failed)
		}
	}
	if best.Failed != "" {
		return b.String(), errNoRoute
	}
	return b.String(), nil
}

// action says what a route does.
func action(r *config.Route) string {
	switch {
	case r.Redirect != nil:
		return fmt.Sprintf("redirect %d", r.Redirect.Status)
	case r.Answer != nil:
		return fmt.Sprintf("answer %d", r.Answer.Status)
	}
	return "upstream " + r.Upstream
}
