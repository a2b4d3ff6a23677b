# Sourced at the project's root by ./test and ./demo: where Cargo builds, as CARGO_TARGET_DIR.
# One folder for every checkout with these dependencies, so that a fresh clone does not build them again.
# Cargo knows the workspace's own packages by name and age, not by place, so those of another checkout are cleared first.
cache=${ESPALIER_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/espalier}
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$cache/target-$(cat Cargo.lock rust-toolchain.toml | sha256sum | cut -c1-12)}
if [ "$(cat "$CARGO_TARGET_DIR/checkout" 2>/dev/null)" != "$PWD" ]; then
  [ ! -d "$CARGO_TARGET_DIR" ] || for places in "" "--release" "--release --target x86_64-unknown-linux-gnu"; do
    cargo clean --quiet --locked --workspace $places
  done
  mkdir -p "$CARGO_TARGET_DIR"
  echo "$PWD" >"$CARGO_TARGET_DIR/checkout"
fi
