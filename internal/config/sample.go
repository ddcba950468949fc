package config

import _ "embed"

// Sample is a commented file to begin with: in an empty folder it passes Load
// and runs with a self-signed certificate.
//
//go:embed sample.yaml
var Sample []byte

// Schema is the JSON Schema of the file, for editors.
//
//go:embed schema.json
var Schema []byte
