// Command remotebuild builds a function through OpenFaaS's own Go SDK, as `faas-cli up
// --remote-builder` does: context by CreateBuildContext, tar by MakeTar, signed POST /build.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/openfaas/go-sdk/builder"
)

func main() {
	remote := flag.String("remote-builder", "http://127.0.0.1:8080", "URL of the builder")
	secretFile := flag.String("payload-secret", "", "file with the HMAC key")
	name := flag.String("name", "", "function")
	handler := flag.String("handler", "", "handler folder")
	lang := flag.String("lang", "", "template")
	image := flag.String("image", "", "image to build")
	flag.Parse()

	secret, err := os.ReadFile(*secretFile)
	if err != nil {
		log.Fatal(err)
	}
	target, err := url.Parse(*remote)
	if err != nil {
		log.Fatal(err)
	}
	context, err := builder.CreateBuildContext(*name, *handler, *lang, nil)
	if err != nil {
		log.Fatal(err)
	}
	folder, err := os.MkdirTemp("", "remotebuild")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(folder)
	tar := filepath.Join(folder, "req.tar")
	if err := builder.MakeTar(tar, context, &builder.BuildConfig{Image: *image}); err != nil {
		log.Fatal(err)
	}
	auth := builder.WithHmacAuth(strings.TrimSpace(string(secret)))
	result, err := builder.NewFunctionBuilder(target, http.DefaultClient, auth).Build(tar)
	text, _ := json.MarshalIndent(result, "", "  ")
	fmt.Println(string(text))
	if err != nil || result.Status != "success" {
		log.Fatalf("build failed: %v %s", err, result.Status)
	}
}
