//go:build tools

// Package faascli pins the OpenFaaS command line that the contract tests drive, unmodified.
package faascli

import _ "github.com/openfaas/faas-cli"
