"""Every version of every HTTPRoute in a namespace, as the API server's watch tells it, with the share of users that each Service gets.

Judges nothing; the share is worked out here anew, not with the product's code.
"""

import re
from datetime import datetime, timezone
from typing import Any

from .api import Api, Object
from .watching import Version, Watch

ENDINGS = [f"{number:02x}" for number in range(256)]
NOTE = "espalier.dev/decision"


def share(route: Object, service: str) -> float:
    """The larger of the shares that users with and users without an id meet, in percent."""
    rules = [rule for rule in route["spec"].get("rules", []) if rule.get("backendRefs")]
    patterns = sorted({header["value"] for rule in rules for header in id_headers(rule)})
    plain = [rule for rule in rules if not id_headers(rule)]
    without = max((weight(rule, service) for rule in plain), default=0.0)
    if not patterns:
        return without
    with_id = 0.0
    for ending in ENDINGS:
        # A rule with a header match is narrower than one without; among equals the first wins.
        chosen = next((rule for rule in rules if any(re.search(header["value"], f"u{ending}") for header in id_headers(rule))), None)
        with_id += (weight(chosen, service) if chosen else without) / len(ENDINGS)
    return max(without, with_id)


def id_headers(rule: Object) -> list[Object]:
    """Header matches by regular expression."""
    headers = [header for match in rule.get("matches", []) for header in match.get("headers", [])]
    return [header for header in headers if header.get("type") == "RegularExpression"]


def weight(rule: Object, service: str) -> float:
    """Percent of a rule's requests for this Service."""
    weights = {ref["name"]: ref.get("weight", 1) for ref in rule["backendRefs"]}
    total = sum(weights.values())
    return 100.0 * weights.get(service, 0) / total if total else 0.0


class RouteLog:
    """Follows the routes of one namespace until it is closed."""

    def __init__(self, api: Api, namespace: str) -> None:
        self.watch = Watch(api, "httproutes", namespace)

    def close(self) -> None:
        """Ends the watch."""
        self.watch.close()

    def names(self) -> list[str]:
        """Every route that was ever seen."""
        return sorted({version.name for version in list(self.watch.versions)})

    def of(self, name: str, since: float = 0.0) -> list[Version]:
        """Versions of one route whose generation or existence changed; status updates are left out."""
        changed: list[Version] = []
        for version in list(self.watch.versions):
            if version.name != name:
                continue
            before = changed[-1] if changed else None
            if before and before.exists and version.exists and generation(before) == generation(version):
                continue
            changed.append(version)
        return [version for version in changed if version.at >= since]

    def shares(self, name: str, service: str, since: float = 0.0) -> list[tuple[Version, float]]:
        """When the share of this Service changed, and to what; begins with the first version."""
        result: list[tuple[Version, float]] = []
        for version in self.of(name):
            now = share(version.object, service) if version.exists else 0.0
            if not result or result[-1][1] != now:
                result.append((version, now))
        return [(version, now) for version, now in result if version.at >= since]

    def ladder(self, name: str, service: str, since: float = 0.0) -> list[float]:
        """The shares that this Service had, in order."""
        return [round(now, 1) for _, now in self.shares(name, service, since)]

    def highest(self, name: str, service: str, since: float = 0.0) -> float:
        """The largest share that this Service ever had."""
        return max((now for _, now in self.shares(name, service, since)), default=0.0)

    def first(self, name: str, service: str, wanted: float, since: float = 0.0) -> Version | None:
        """The first version after `since` in which this Service has exactly this share."""
        found = (version for version, now in self.shares(name, service, since) if abs(now - wanted) < 0.05)
        return next(found, None)


def generation(version: Version) -> int:
    """Changes with the spec only, so that status updates can be left out."""
    return int(version.object["metadata"].get("generation", 0))


def describe(versions: list[Version]) -> list[str]:
    """A line per version, for people who look at a failure."""
    return [line(version) for version in versions]


def line(version: Version) -> str:
    """Time, generation, weights of every rule, and the decision that it carries."""
    clock = datetime.fromtimestamp(version.wall, timezone.utc).strftime("%H:%M:%S.%f")[:-3]
    metadata: dict[str, Any] = version.object["metadata"]
    rules = [rule_text(rule) for rule in version.object["spec"].get("rules", [])]
    note = metadata.get("annotations", {}).get(NOTE, "")
    return f"{clock} {version.kind} {version.name} generation {generation(version)}: {' | '.join(rules)} {note[:160]}"


def rule_text(rule: Object) -> str:
    """Weights, mirrors and id patterns of a rule."""
    refs = ", ".join(f"{ref['name']}={ref.get('weight', 1)}" for ref in rule.get("backendRefs", []))
    mirrors = [f["requestMirror"]["backendRef"]["name"] for f in rule.get("filters", []) if f["type"] == "RequestMirror"]
    ids = [header["value"] for header in id_headers(rule)]
    return refs + "".join(f" mirror {name}" for name in mirrors) + "".join(f" id {value}" for value in ids)
