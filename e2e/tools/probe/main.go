// Probe is a pod that says who it is and, from inside the cluster, tries what it is asked to try.
// It is for tests of the cluster itself; it is not a model server and keeps no state but counters.
package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"time"
)

const account = "/var/run/secrets/kubernetes.io/serviceaccount/"

var requests atomic.Int64

func main() {
	http.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		requests.Add(1)
		fmt.Fprintln(w, os.Getenv("REVISION"))
	})
	http.HandleFunc("/metrics", metrics)
	http.HandleFunc("/lookup", lookup)
	http.HandleFunc("/fetch", func(w http.ResponseWriter, r *http.Request) {
		fetch(w, http.DefaultTransport, r.URL.Query().Get("url"), "")
	})
	http.HandleFunc("/version", version)
	http.HandleFunc("/write", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, os.WriteFile("/written", nil, 0o644) != nil, os.Getuid())
	})
	http.HandleFunc("/eat", eat)
	// The accelerator exporter's port: it reports the pod it is told to, not itself.
	go func() { log.Fatal(http.ListenAndServe(":9400", http.HandlerFunc(exporter))) }()
	log.Println("listening")
	log.Fatal(http.ListenAndServe(":8080", nil))
}

func metrics(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; version=0.0.4")
	fmt.Fprintf(w, "# TYPE probe_requests_total counter\nprobe_requests_total %d\n", requests.Load())
}

func exporter(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; version=0.0.4")
	fmt.Fprintf(w, "# TYPE probe_power_watts gauge\nprobe_power_watts{pod=%q} 42\n", "model-of-"+os.Getenv("REVISION"))
}

func lookup(w http.ResponseWriter, r *http.Request) {
	addresses, err := net.LookupHost(r.URL.Query().Get("host"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	fmt.Fprintln(w, strings.Join(addresses, " "))
}

// version asks the API server with the pod's own identity, through the `kubernetes` Service.
func version(w http.ResponseWriter, _ *http.Request) {
	authority, err := os.ReadFile(account + "ca.crt")
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	token, err := os.ReadFile(account + "token")
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(authority)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}
	fetch(w, transport, "https://kubernetes.default.svc/version", string(token))
}

func fetch(w http.ResponseWriter, transport http.RoundTripper, url, token string) {
	request, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	client := &http.Client{Transport: transport, Timeout: 5 * time.Second}
	response, err := client.Do(request)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer response.Body.Close()
	w.WriteHeader(response.StatusCode)
	_, _ = io.Copy(w, io.LimitReader(response.Body, 1<<20))
}

// eat takes memory until the container's limit ends the process.
func eat(_ http.ResponseWriter, _ *http.Request) {
	var eaten [][]byte
	for {
		bite := make([]byte, 1<<20)
		for at := range bite {
			bite[at] = 1
		}
		eaten = append(eaten, bite)
	}
}
