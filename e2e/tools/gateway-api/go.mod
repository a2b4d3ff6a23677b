// Pins the version of the Gateway API's manifests; nothing is compiled, so `go mod tidy` must not be run here.
module espalier.dev/e2e/tools/gateway-api

go 1.26.0

require sigs.k8s.io/gateway-api v1.4.1
