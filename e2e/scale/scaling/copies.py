"""Idle rollouts by the thousand: exact copies of one that the operator itself has brought to rest, with all of its children.

The operator must be stopped meanwhile, and so must the controllers that would make pods for the copies; the pods are copied too.
"""

import copy
import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from story.api import Api, ApiError, Object, path, query

from .routes import status as accepted

# Objects that are written side by side.
HANDS = 12
# What the API server fills in by itself.
SERVER_FIELDS = ("uid", "resourceVersion", "creationTimestamp", "generation", "managedFields", "selfLink", "deletionTimestamp")
KINDS = ("deployments", "services", "endpointslices", "pods", "controllerrevisions", "httproutes")
WITH_STATUS = ("deployments", "pods")


class Original:
    """The rollout that is copied, with everything that it owns."""

    def __init__(self, api: Api, namespace: str, name: str) -> None:
        self.api, self.namespace, self.name = api, namespace, name
        rollout = api.get("modelrollouts", namespace, name)
        assert rollout is not None
        self.uid = str(rollout["metadata"]["uid"])
        self.rollout = rollout
        self.children = [(kind, one) for kind in KINDS for one in self.owned(kind)]
        found = {kind for kind, _ in self.children}
        assert found == set(KINDS), f"the original lacks {set(KINDS) - found}"

    def owned(self, kind: str) -> list[Object]:
        """Children of one kind."""
        if kind == "httproutes":
            return [self.api.call("GET", path(kind, self.namespace, self.name))]
        return self.api.list(kind, self.namespace, f"espalier.dev/rollout={self.name}")

    def copied(self, thing: Object, name: str, uid: str) -> Object:
        """The same for a rollout of another name, which is as long as the original's. Owners other than the rollout are left out."""
        new: Object = json.loads(json.dumps(thing).replace(self.name, name).replace(self.uid, uid or self.uid))
        metadata = new["metadata"]
        for field in SERVER_FIELDS:
            metadata.pop(field, None)
        owners = [owner for owner in metadata.get("ownerReferences", []) if owner["kind"] == "ModelRollout"]
        metadata.pop("ownerReferences", None)
        if owners:
            metadata["ownerReferences"] = owners
        return new

    def make(self, name: str) -> None:
        """One copy, its status and its children."""
        new = self.copied(self.rollout, name, "")
        made = self.create("modelrollouts", new)
        made["status"] = new["status"]
        self.put_status("modelrollouts", made)
        for kind, one in self.children:
            child = self.copied(one, name, str(made["metadata"]["uid"]))
            if kind == "services":
                # There are fewer addresses for Services than copies.
                child["spec"] = {key: child["spec"][key] for key in ("selector", "ports")} | {"clusterIP": "None"}
            if kind == "pods":
                child["spec"].pop("volumes", None)
                for container in child["spec"]["containers"]:
                    container.pop("volumeMounts", None)
                child["spec"]["automountServiceAccountToken"] = False
            wanted = copy.deepcopy(child.get("status"))
            done = self.create(kind, child)
            if kind == "httproutes":
                done["status"] = accepted(done)
                self.put_status(kind, done)
            elif kind in WITH_STATUS and wanted:
                done["status"] = wanted
                self.put_status(kind, done)

    def create(self, kind: str, wanted: Object) -> Object:
        """Creates, or gives what an interrupted run has made."""
        try:
            return self.api.call("POST", path(kind, self.namespace) + query(fieldManager="espalier"), wanted)
        except ApiError as error:
            if error.code != 409:
                raise
            return self.api.call("GET", path(kind, self.namespace, wanted["metadata"]["name"]))

    def put_status(self, kind: str, thing: Object) -> None:
        """Writes the status of a new object; what somebody else has written in between stays."""
        try:
            self.api.call("PUT", path(kind, self.namespace, thing["metadata"]["name"]) + "/status" + query(fieldManager="espalier"), thing)
        except ApiError as error:
            if error.code != 409:
                raise


def make(original: Original, names: list[str], say: Any) -> float:
    """All of them; returns the seconds that it took."""
    began = time.monotonic()
    with ThreadPoolExecutor(HANDS) as pool:
        for done, _ in enumerate(pool.map(original.make, names), 1):
            if done % 1000 == 0:
                say(f"  {done} of {len(names)} idle rollouts after {time.monotonic() - began:.0f} s")
    return time.monotonic() - began
