"""Writes go.mod for the Kubernetes programs as Go tool dependencies: gomod.py 34.4 > go.mod

k8s.io/kubernetes points at its staging modules by relative path, so every one of them needs a replace line.
"""

import json
import re
import subprocess
import sys

PROGRAMS = ("kube-apiserver", "kube-controller-manager", "kube-proxy", "kube-scheduler", "kubelet", "kubectl")


def main(version: str) -> None:
    download = subprocess.check_output(["go", "mod", "download", "-json", f"k8s.io/kubernetes@v1.{version}"], cwd="/")
    with open(json.loads(download)["GoMod"], encoding="utf-8") as file:
        upstream = file.read()
    staging = sorted(set(re.findall(r"^\s*(k8s\.io/[a-z0-9-]+)\s*=>\s*\./staging", upstream, re.M)))
    staging = staging or sorted(set(re.findall(r"^\s*(k8s\.io/[a-z0-9-]+) v0\.0\.0", upstream, re.M)))
    print("module espalier.dev/e2e/tools/kubernetes\n\ngo 1.24.0\n\ntool (")
    for program in PROGRAMS:
        print(f"\tk8s.io/kubernetes/cmd/{program}")
    print(f"\tgo.etcd.io/etcd/server/v3\n)\n\nrequire k8s.io/kubernetes v1.{version}\n\nreplace (")
    for module in staging:
        print(f"\t{module} => {module} v0.{version}")
    print(")")


main(sys.argv[1])
