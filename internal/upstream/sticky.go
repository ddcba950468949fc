package upstream

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
)

func (k *Cookie) settle() error {
	if k.Name == "" {
		k.Name = defaultCookie
	}
	if k.Path == "" {
		k.Path = "/"
	}
	if k.SameSite == 0 || k.SameSite == http.SameSiteDefaultMode {
		k.SameSite = http.SameSiteLaxMode
	}
	if len(k.Secret) < minSecret {
		return fmt.Errorf("secret of the sticky cookie has %d octets; it takes at least %d", len(k.Secret), minSecret)
	}
	if k.Secure != SecureAuto && k.Secure != SecureAlways && k.Secure != SecureNever {
		return fmt.Errorf("secure %q of the sticky cookie is neither always nor never", k.Secure)
	}
	c := http.Cookie{Name: k.Name, Value: "x", Path: k.Path, Domain: k.Domain}
	if err := c.Valid(); err != nil {
		return fmt.Errorf("sticky cookie: %w", err)
	}
	return nil
}

// tag is the value that stands for a server. Names are told apart by their
// lengths, so that no two pairs have the same input.
func (k *Cookie) tag(upstream, server string) string {
	m := hmac.New(sha256.New, k.Secret)
	fmt.Fprintf(m, "%d:%s%d:%s", len(upstream), upstream, len(server), server)
	return base64.RawURLEncoding.EncodeToString(m.Sum(nil))
}

// fields are the values of Set-Cookie for a client that came in cleartext and
// for one that came over https (RFC 6265 section 4.1).
func (k *Cookie) fields(tag string) (plain, secure string) {
	c := http.Cookie{
		Name: k.Name, Value: tag, Path: k.Path, Domain: k.Domain, MaxAge: int(k.MaxAge.Seconds()),
		HttpOnly: true, SameSite: k.SameSite,
		Secure: k.Secure == SecureAlways || k.SameSite == http.SameSiteNoneMode,
	}
	plain = c.String()
	c.Secure = c.Secure || k.Secure == SecureAuto
	return plain, c.String()
}

// cookieValue finds a cookie in the value of a Cookie field, without its quotes
// (RFC 6265 section 4.2.1).
func cookieValue(line, name string) (string, bool) {
	for line != "" {
		var pair string
		pair, line, _ = strings.Cut(line, ";")
		key, value, ok := strings.Cut(strings.Trim(pair, " \t"), "=")
		if ok && key == name {
			if n := len(value); n > 1 && value[0] == '"' && value[n-1] == '"' {
				value = value[1 : n-1]
			}
			return value, true
		}
	}
	return "", false
}
