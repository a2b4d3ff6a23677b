module espalier.dev/e2e/tools/probe

go 1.26.0
