package gateway

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/pprof"
	"slices"
	"time"

	"wsgate/bridge"
	"wsgate/internal/config"
)

// admin is the listener of the operator: HTTP/1 only, off unless asked for.
type admin struct {
	server  *http.Server
	address string
}

// ordersHeader has to be in requests that change something: a page in a browser
// on the same machine cannot send it to another origin.
const ordersHeader = "Wsgate-Order"

func (g *Gateway) startAdmin(c *config.Config, address string) (*admin, error) {
	ln, err := net.Listen("tcp", address)
	if err != nil {
		return nil, listenError(c, "admin.address", address, err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /live", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "live\n") })
	mux.HandleFunc("GET /ready", g.serveReady)
	mux.HandleFunc("GET /counters", g.serveCounters)
	mux.HandleFunc("GET /upstreams", g.serveUpstreams)
	mux.HandleFunc("POST /reload", order(g.serveReload))
	mux.HandleFunc("POST /drain/route", order(g.serveDrainRoute))
	mux.HandleFunc("POST /drain/server", order(g.serveDrainServer))
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	a := &admin{
		server:  &http.Server{Handler: mux, Protocols: protocols, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute},
		address: ln.Addr().String(),
	}
	go a.server.Serve(ln)
	g.log.Info("admin", slog.String("address", a.address))
	return a, nil
}

func (a *admin) close() { a.server.Close() }

// order lets requests through that a browser does not send by itself.
func order(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get(ordersHeader) == "" {
			http.Error(w, "an order has to carry the field "+ordersHeader+", say "+ordersHeader+": 1", http.StatusForbidden)
			return
		}
		next(w, r)
	}
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	_ = e.Encode(v) // the operator has gone
}

// Problem is what the admin listener answers when an order cannot be obeyed.
type Problem struct {
	Error string `json:"error"`
}

func (g *Gateway) serveReady(w http.ResponseWriter, _ *http.Request) {
	if !g.ready.Load() {
		w.WriteHeader(http.StatusServiceUnavailable)
		io.WriteString(w, "not ready\n")
		return
	}
	io.WriteString(w, "ready\n")
}

// serveReload obeys wsgate reload.
func (g *Gateway) serveReload(w http.ResponseWriter, r *http.Request) {
	report, err := g.Reload(r.Context(), r.URL.Query().Get("dry_run") == "1")
	if err != nil {
		writeJSON(w, http.StatusConflict, Problem{err.Error()})
		return
	}
	writeJSON(w, http.StatusOK, report)
}

// Drained is the answer to a drain order.
type Drained struct {
	Drained bool `json:"drained"` // from now on
	Tunnels int  `json:"tunnels"` // that are ended by it, or would have been
}

// serveDrainRoute obeys wsgate drain route: the route takes nothing new, and its
// tunnels get their Close spread over the drain time.
func (g *Gateway) serveDrainRoute(w http.ResponseWriter, r *http.Request) {
	name, off := r.URL.Query().Get("route"), r.URL.Query().Get("undo") == "1"
	if to := g.routing.Load().byName[name]; to == nil {
		writeJSON(w, http.StatusNotFound, Problem{unknown("route", name, g.routing.Load().names())})
		return
	}
	g.reloading.Lock()
	next := make(map[string]bool)
	if d := g.drained.Load(); d != nil {
		maps.Copy(next, *d)
	}
	if off {
		delete(next, name)
	} else {
		next[name] = true
	}
	g.drained.Store(&next)
	g.reloading.Unlock()
	g.obey(w, r, "route "+name, off, func(t *bridge.Tunnel) bool { return t.Service.Name == name })
}

// serveDrainServer obeys wsgate drain server.
func (g *Gateway) serveDrainServer(w http.ResponseWriter, r *http.Request) {
	name, up, off := r.URL.Query().Get("server"), r.URL.Query().Get("upstream"), r.URL.Query().Get("undo") == "1"
	routing := g.routing.Load()
	found := make(map[string]bool) // names of tunnels' servers
	obeyed := false
	var known []string
	for of, u := range routing.upstreams {
		if up != "" && up != of {
			continue
		}
		for _, s := range u.Status() {
			known = append(known, s.Entry)
			if s.Name == name || s.Entry == name {
				found[s.Name] = true
			}
		}
		if u.SetDrain(name, !off) {
			obeyed = true
		}
	}
	if !obeyed {
		slices.Sort(known)
		writeJSON(w, http.StatusNotFound, Problem{unknown("server", name, slices.Compact(known))})
		return
	}
	g.obey(w, r, "server "+name, off, func(t *bridge.Tunnel) bool { return t.Server != nil && found[t.Server.String()] })
}

// obey ends, or spares, the tunnels of a drain order and answers.
func (g *Gateway) obey(w http.ResponseWriter, r *http.Request, what string, off bool, m bridge.Match) {
	n, err := g.bridge.Count(r.Context(), m)
	if err != nil {
		return // the operator has gone
	}
	if off {
		g.bridge.Spare(m)
	} else {
		g.bridge.End(bridge.Ending{Time: g.routing.Load().config.Drain.Time.Of(), Why: "drain"}, m)
	}
	g.log.Info("drain order", slog.String("of", what), slog.Bool("undo", off), slog.Int("tunnels", n))
	writeJSON(w, http.StatusOK, Drained{Drained: !off, Tunnels: n})
}

func unknown(what, name string, known []string) string {
	return fmt.Sprintf("there is no %s %q; known: %q", what, name, known)
}

// serveUpstreams shows servers and their state.
func (g *Gateway) serveUpstreams(w http.ResponseWriter, _ *http.Request) {
	out := make(map[string]any)
	for name, u := range g.routing.Load().upstreams {
		out[name] = struct {
			Stats   any `json:"stats"`
			Servers any `json:"servers"`
		}{u.Stats(), u.Status()}
	}
	writeJSON(w, http.StatusOK, out)
}

// errAdmin is for Ask.
var errAdmin = errors.New("the admin listener answers with no JSON; is it one of wsgate?")

// Ask sends an order to the admin listener of another process and decodes its
// answer into out.
func Ask(address, target string, out any) error {
	r, err := http.NewRequest(http.MethodPost, "http://"+address+target, nil)
	if err != nil {
		return err
	}
	r.Header.Set(ordersHeader, "1")
	client := &http.Client{Timeout: time.Minute, Transport: &http.Transport{Protocols: oneOnly(), Proxy: nil}}
	defer client.CloseIdleConnections()
	answer, err := client.Do(r)
	if err != nil {
		return fmt.Errorf("admin listener at %q: %w", address, errors.Unwrap(err))
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		var p Problem
		if json.NewDecoder(answer.Body).Decode(&p) != nil || p.Error == "" {
			return errAdmin
		}
		return errors.New(p.Error)
	}
	if json.NewDecoder(answer.Body).Decode(out) != nil {
		return errAdmin
	}
	return nil
}

func oneOnly() *http.Protocols {
	p := new(http.Protocols)
	p.SetHTTP1(true)
	return p
}
