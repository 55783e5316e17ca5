module sluice/tests/contract/clients/remotebuild

go 1.21

require github.com/openfaas/go-sdk v0.2.14

require github.com/alexellis/hmac/v2 v2.0.0 // indirect
