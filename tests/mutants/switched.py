"""Builds every small change of some files into one set of test programs, each behind a switch, and runs the tests that reach a change against it.

One build serves thousands of changes, where a build for each would take days. Does not choose the changes (cargo-mutants lists them), and does not
judge what is missed. A function that is `const` or returns `impl Trait` cannot hold two bodies: its changes are left to the slow way.
"""

import collections
import concurrent.futures
import json
import math
import os
import pathlib
import re
import signal
import subprocess
import sys
import threading
import time

ACTIVE, TRACE = "ESPALIER_MUTANT", "ESPALIER_MUTANT_TRACE"
# Read once per process; the functions that a test enters are written down as it enters them first.
SWITCH = """
#[doc(hidden)]
#[allow(missing_docs)]
pub mod switched {
    use std::{collections::BTreeSet, env, fs::OpenOptions, io::Write, sync::{LazyLock, Mutex}};
    static ACTIVE: LazyLock<u32> = LazyLock::new(|| env::var("%s").ok().and_then(|text| text.parse().ok()).unwrap_or(0));
    static TRACE: LazyLock<Option<String>> = LazyLock::new(|| env::var("%s").ok());
    static SEEN: Mutex<BTreeSet<u32>> = Mutex::new(BTreeSet::new());
    pub fn arm(function: u32) -> u32 {
        if let Some(path) = &*TRACE {
            if let Ok(mut seen) = SEEN.lock() {
                if seen.insert(function) {
                    let file = OpenOptions::new().create(true).append(true).open(path);
                    let _ = file.and_then(|mut file| file.write_all(format!("{function}\\n").as_bytes()));
                }
            }
        }
        *ACTIVE
    }
}
""" % (ACTIVE, TRACE)
# A change may make a loop endless. Seconds of the processor, since a busy machine makes a test slow, and of the clock for one that waits for ever.
LEAST_SECONDS, SLOWER, LONGEST_WAIT = 30, 10, 3600
# Tests that take less than this together are run by one process.
CHUNK = 0.6


def checkout(root, tree):
    """The files of the checkout by name; what is not among them leaves the copy."""
    listed = subprocess.run(["git", "-C", root, "ls-files", "-z", "-co", "--exclude-standard"], check=True, capture_output=True, text=True).stdout
    wanted = {name for name in listed.split("\0") if name and (root / name).is_file()}
    for old in tree.rglob("*"):
        if old.is_file() and str(old.relative_to(tree)) not in wanted:
            old.unlink()
    return {name: (root / name).read_bytes() for name in wanted}


def write_changed(tree, files):
    """Writes the files whose content is another, and touches no other: cargo goes by the time of change."""
    for name, content in files.items():
        path = tree / name
        if not path.exists() or path.read_bytes() != content:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)


class Source:
    """One file, with positions as cargo-mutants gives them: lines and columns from 1."""

    def __init__(self, text):
        self.text = text
        self.starts = [0] + [found.end() for found in re.finditer("\n", text)]

    def offset(self, place):
        return self.starts[place["line"] - 1] + place["column"] - 1

    def span(self, span):
        return self.offset(span["start"]), self.offset(span["end"])


class Planted:
    """All changes of some files, behind switches. Numbers of changes begin at 1; 0 is the code as it is."""

    def __init__(self, mutants):
        self.mutants = dict(enumerate(mutants, 1))
        self.function_of = {}
        self.functions = {}
        self.unswitched = set()
        self.unviable = set()
        self.lines = {}

    def text(self, name, source):
        """The file with every body that has changes replaced by one body for each of them; notes which lines belong to which change."""
        groups = collections.defaultdict(list)
        for number, mutant in self.mutants.items():
            if mutant["file"] == name and number not in self.unviable | self.unswitched:
                function = mutant["function"]
                start, end = source.span(function["span"]) if function else (0, 0)
                head = source.text[start:source.text.find("{", start)] if function else "const fn"
                if re.search(r"\bconst (async )?fn\b", head) or "impl " in (function["return_type"] if function else ""):
                    self.unswitched.add(number)
                else:
                    groups[(start, end)].append(number)
        spans = sorted(groups, key=lambda span: (span[0], -span[1]))

        def body(start, end):
            return source.text.index("{", source.text.index("fn ", start)) + 1, end - 1

        def render(first, last):
            """The text of a range, with the functions in it switched."""
            out, at = [], first
            for span in spans:
                if span[0] < at or span[1] > last:
                    continue
                open_at, close_at = body(*span)
                out.append(source.text[at:open_at])
                key = (name, span)
                function = self.functions.setdefault(key, len(self.functions) + 1)
                out.append(f" match crate::switched::arm({function}) {{\n")
                for number in groups[span]:
                    self.function_of[number] = function
                    start, end = source.span(self.mutants[number]["span"])
                    changed = source.text[open_at:start] + " " + self.mutants[number]["replacement"] + " " + source.text[end:close_at]
                    out.append(f"/*<{number}>*/{number}u32 => {{{changed}\n}}\n/*</{number}>*/\n")
                # A function inside this one has its own switches, in the body that is left as it is.
                out.append("_ => {" + render(open_at, close_at) + "}\n}\n")
                at = close_at
            out.append(source.text[at:last])
            return "".join(out)

        text = render(0, len(source.text))
        open_numbers = []
        for index, line in enumerate(text.split("\n"), 1):
            for closing, number in re.findall(r"/\*<(/?)(\d+)>\*/", line):
                open_numbers = [one for one in open_numbers if one != int(number)] if closing else open_numbers + [int(number)]
            if open_numbers:
                self.lines[(name, index)] = open_numbers[-1]
        return text


class Build:
    """The copy of the checkout with the changes in it, and its test programs."""

    def __init__(self, root, tree, target, crate):
        self.root, self.tree, self.crate = root, tree, crate
        tree.mkdir(parents=True, exist_ok=True)
        # A warning of a changed body is none of ours.
        self.environment = dict(os.environ, CARGO_TARGET_DIR=str(target), CARGO_PROFILE_DEV_DEBUG="0", CARGO_PROFILE_TEST_DEBUG="0",
                                CARGO_INCREMENTAL="0", RUSTFLAGS="--cap-lints=allow")

    def cargo(self, *arguments):
        """What cargo says, one value per line."""
        command = ["cargo", *arguments, "--package", self.crate, "--locked", "--message-format=json"]
        ended = subprocess.run(command, cwd=self.tree, env=self.environment, capture_output=True, text=True)
        return ended, [json.loads(line) for line in ended.stdout.splitlines() if line.startswith("{")]

    def plant(self, planted):
        """Writes the switched files."""
        files = checkout(self.root, self.tree)
        planted.lines.clear()
        for name in sorted({mutant["file"] for mutant in planted.mutants.values()}):
            files[name] = planted.text(name, Source(files[name].decode())).encode()
        files[f"crates/{self.crate}/src/lib.rs"] += SWITCH.encode()
        write_changed(self.tree, files)

    def until_it_builds(self, planted):
        """Takes out what the compiler refuses, until it refuses nothing."""
        while True:
            self.plant(planted)
            ended, said = self.cargo("check", "--lib")
            refused, other = set(), []
            for message in (one["message"] for one in said if one.get("reason") == "compiler-message"):
                if message["level"] != "error" or not message["spans"]:
                    continue
                found = {planted.lines.get((span["file_name"], span["line_start"])) for span in message["spans"]} - {None}
                refused |= found
                other += [] if found else [message["rendered"]]
            if ended.returncode == 0:
                return
            if not refused:
                sys.exit("".join(other) or ended.stderr)
            planted.unviable |= refused
            print(f"  {len(refused)} changes do not build", file=sys.stderr, flush=True)

    def programs(self):
        """Test programs, built."""
        ended, said = self.cargo("test", "--no-run", "--lib", "--tests")
        if ended.returncode != 0:
            sys.exit("".join(one["message"]["rendered"] for one in said if one.get("reason") == "compiler-message") + ended.stderr)
        return [one["executable"] for one in said if one.get("reason") == "compiler-artifact" and one.get("executable") and one["profile"]["test"]]


class Suite:
    """The tests, how long each takes, and which functions each enters."""

    def __init__(self, build, programs, within):
        self.folder, self.within = build.tree / "crates" / build.crate, within
        self.environment = dict(build.environment, CARGO_MANIFEST_DIR=str(self.folder), RUST_BACKTRACE="0")
        self.environment.pop(ACTIVE, None)
        self.seconds, self.reached = {}, collections.defaultdict(set)
        # Which tests noticed changes, by function and by file.
        self.lock, self.killers = threading.Lock(), collections.defaultdict(collections.Counter)
        self.tests = []
        for program in programs:
            listed = subprocess.run([program, "--list", "--format", "terse"], check=True, capture_output=True, text=True, cwd=self.folder).stdout
            self.tests += [(program, line.removesuffix(": test")) for line in listed.splitlines() if line.endswith(": test")]

    def run(self, program, names, seconds, **extra):
        """Whether these tests pass; None when they do not end within so many seconds of the processor."""
        limited = ["sh", "-c", f'ulimit -t {seconds} && exec "$@"', "sh", program, "--exact", "--test-threads=1", *names]
        try:
            ended = subprocess.run(limited, cwd=self.folder, env=self.environment | extra, capture_output=True, text=True, timeout=LONGEST_WAIT)
        except subprocess.TimeoutExpired:
            return None, ""
        if ended.returncode in (-signal.SIGXCPU, -signal.SIGKILL):
            return None, ""
        failed = re.search(r"^test (\S+) .*FAILED$", ended.stdout, re.M)
        return ended.returncode == 0, failed.group(1) if failed else ""

    def measure(self, scratch, known, workers):
        """Runs every test by itself, with nothing switched; `known` keeps what was found, for the same test programs."""
        stamp = [[program, os.stat(program).st_mtime_ns] for program in sorted({program for program, _ in self.tests})]
        rows = json.loads(known.read_text()) if known.exists() else {}
        if rows.get("of") != stamp:
            with concurrent.futures.ThreadPoolExecutor(workers) as pool:
                rows = {"of": stamp, "tests": list(pool.map(lambda numbered: self.alone(scratch, *numbered), enumerate(self.tests)))}
            known.write_text(json.dumps(rows))
        for program, name, took, functions in rows["tests"]:
            self.seconds[(program, name)] = took
            for function in functions:
                self.reached[function].add((program, name))

    def alone(self, scratch, index, test):
        """A test, how long it takes, and the functions that it enters."""
        trace = pathlib.Path(scratch) / f"trace-{index}"
        begun = time.monotonic()
        passed, _ = self.run(test[0], [test[1]], LONGEST_WAIT, **{TRACE: str(trace)})
        if not passed:
            sys.exit(f"{test[1]} fails with nothing changed")
        return [*test, time.monotonic() - begun, [int(line) for line in trace.read_text().split()] if trace.exists() else []]

    def chunks(self, function, file):
        """The tests that enter a function: first those that noticed changes beside, then the quick ones, few processes each."""
        reached = {test for test in self.reached[function] if self.seconds[test] <= self.within}
        with self.lock:
            near = [test for test, _ in self.killers[function].most_common(3) + self.killers[file].most_common(8)]
        first = [test for test in dict.fromkeys(near) if test in reached]
        for test in first:
            yield [test]
        chunk = []
        for test in sorted(reached - set(first), key=lambda test: self.seconds[test]):
            if chunk and (test[0] != chunk[0][0] or sum(self.seconds[one] for one in chunk) + self.seconds[test] > CHUNK):
                yield chunk
                chunk = []
            chunk.append(test)
        if chunk:
            yield chunk

    def outcome(self, number, function, file):
        """`caught`, `ran without end` or `missed`, and the test that noticed."""
        for chunk in self.chunks(function, file):
            seconds = LEAST_SECONDS + SLOWER * math.ceil(sum(self.seconds[test] for test in chunk))
            passed, failed = self.run(chunk[0][0], [test[1] for test in chunk], seconds, **{ACTIVE: str(number)})
            if passed is None:
                return "ran without end", chunk[0][1]
            if not passed:
                test = (chunk[0][0], failed) if failed else chunk[0]
                with self.lock:
                    self.killers[function][test] += 1
                    self.killers[file][test] += 1
                return "caught", test[1]
        return "missed", ""


def run(mutants, root, cache, crate, scratch, before, record, within=math.inf, workers=2):
    """Outcome per change, in the order given: (change, outcome, test that noticed).

    `before`: outcomes of an earlier run, by name; what has none is run. `record` is told each outcome as it is found.
    `within`: tests that take more seconds than this are left out.
    """
    begun = time.monotonic()

    def note(what):
        print(f"  {time.monotonic() - begun:.0f} s: {what}", file=sys.stderr, flush=True)

    planted = Planted(mutants)
    # In a tree of its own: what is built is then written once, and is not built again when it is the same as the last time.
    Build(root, cache / "mutants-check", cache / "mutants-target", crate).until_it_builds(planted)
    build = Build(root, cache / "mutants-tree", cache / "mutants-target", crate)
    build.plant(planted)
    note(f"{len(planted.mutants) - len(planted.unviable) - len(planted.unswitched)} changes behind switches")
    suite = Suite(build, build.programs(), within)
    note("test programs built")
    suite.measure(scratch, cache / "mutants-measured.json", workers)
    note(f"{len(suite.tests)} tests measured, {sum(suite.seconds.values()):.0f} s together")

    def one(number):
        mutant = planted.mutants[number]
        known = before.get(mutant["name"])
        if number in planted.unviable:
            found = "did not build", ""
        elif number in planted.unswitched:
            found = "not run", ""
        elif known:
            return known
        else:
            found = suite.outcome(number, planted.function_of[number], mutant["file"])
        record(mutant["name"], *found)
        if found[0] == "missed":
            note(f"missed: {mutant['name']}")
        if number % 50 == 0:
            note(f"change {number} of {len(planted.mutants)}")
        return found

    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        outcomes = list(pool.map(one, planted.mutants))
    note("done")
    return [(mutant, *outcome) for mutant, outcome in zip(planted.mutants.values(), outcomes)]
