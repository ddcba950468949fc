package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"wsgate/conformance"
)

func listCommand() *cobra.Command {
	var format string
	var profiles bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List all cases: id, rows, RFC and section, level, one line",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if profiles {
				return listProfiles(cmd.OutOrStdout())
			}
			return list(cmd.OutOrStdout(), format)
		},
	}
	cmd.Flags().StringVar(&format, "format", "text", "text, json or markdown")
	cmd.Flags().BoolVar(&profiles, "profiles", false, "list the set-ups of the gateway that cases need, in place of the cases")
	return cmd
}

// listed is a case in JSON.
type listed struct {
	ID      string            `json:"id"`
	Rows    []int             `json:"rows"`
	RFC     string            `json:"rfc"`
	Section string            `json:"section"`
	Level   conformance.Level `json:"level"`
	Profile string            `json:"profile"`
	Title   string            `json:"title"`
}

func list(w io.Writer, format string) error {
	cases := conformance.Cases()
	switch format {
	case "text":
		return conformance.List(w)
	case "markdown":
		fmt.Fprint(w, "| case | rows | rule | level | profile | the gateway |\n|---|---|---|---|---|---|\n")
		for i := range cases {
			c := &cases[i]
			fmt.Fprintf(w, "| %s | %s | %s | %s | %s | %s |\n", c.ID, c.RowList(), c.Citation(), c.Level, c.Profile, strings.ReplaceAll(c.Title, "|", "\\|"))
		}
		return nil
	case "json":
		all := make([]listed, len(cases))
		for i, c := range cases {
			all[i] = listed{c.ID, c.Rows, c.RFC, c.Section, c.Level, c.Profile, c.Title}
		}
		e := json.NewEncoder(w)
		e.SetIndent("", " ")
		e.SetEscapeHTML(false)
		return e.Encode(map[string]any{"cases": all})
	}
	return fmt.Errorf("no format %q; there are text, json, markdown", format)
}

func listProfiles(w io.Writer) error {
	n := make(map[string]int)
	for _, c := range conformance.Cases() {
		n[c.Profile]++
	}
	for _, p := range conformance.Profiles() {
		fmt.Fprintf(w, "%s (%d cases)\n    %s\n", p.Name, n[p.Name], p.Setup)
	}
	return nil
}

func explainCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "explain ID",
		Short: "Say what a case sends, what it wants to see, and why",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := conformance.Find(args[0])
			if err != nil {
				return err
			}
			explain(cmd.OutOrStdout(), &c)
			return nil
		},
		ValidArgsFunction: func(*cobra.Command, []string, string) (ids []string, d cobra.ShellCompDirective) {
			for _, c := range conformance.Cases() {
				ids = append(ids, c.ID)
			}
			return ids, cobra.ShellCompDirectiveNoFileComp
		},
	}
}

func explain(w io.Writer, c *conformance.Case) {
	fmt.Fprintf(w, "%s\n%s\n\n", c.ID, c.Title)
	rule := c.Citation()
	if rule == "" {
		rule = "no RFC"
	}
	fmt.Fprintf(w, "level    %s (%s)\nprofile  %s\nrows     %s\n\n", c.Level, rule, c.Profile, c.RowList())
	for _, x := range []struct{ name, text string }{
		{"sent", c.Text.Sends},
		{"wanted", c.Text.Sees},
		{"rule", c.Text.Rule},
		{"why", c.Text.Why},
		{"fails", fails(c)},
	} {
		fmt.Fprintf(w, "%-8s %s\n", x.name, wrap(x.text, 90, "         "))
	}
}

// fails says which of the gateways that were compared fail the case.
func fails(c *conformance.Case) string {
	if by := c.FailedBy(); len(by) > 0 {
		return strings.Join(by, ", ") + " (see docs/conformance.md)"
	}
	return "none of those in docs/conformance.md"
}

// wrap breaks lines at spaces.
func wrap(s string, width int, indent string) string {
	var b strings.Builder
	n := 0
	for i, word := range strings.Fields(s) {
		switch {
		case i == 0:
		case n+1+len(word) > width:
			b.WriteString("\n" + indent)
			n = 0
		default:
			b.WriteByte(' ')
			n++
		}
		b.WriteString(word)
		n += len(word)
	}
	return b.String()
}
