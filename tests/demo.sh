#!/usr/bin/env bash
# The main path on simulated hosts with real processes: `make demo` runs this. Two hosts with a TPM each, a credential
# service whose authority is in an HSM and whose other keys are in a TPM; one host boots another kernel. Every step says what it showed; the script ends with 0
# only if every step held, and leaves nothing running.
set -euo pipefail

BIN=${TOUCHMARK_BIN:?set TOUCHMARK_BIN to the folder with touchmark, touchmark-device and touchmark-sim}

# The outer half makes the hosts; the inner half, below, runs with them in its environment.
if [[ -z ${TOUCHMARK_DEMO_INNER:-} ]]; then
  export TOUCHMARK_DEMO_INNER=1
  exec "$BIN/touchmark-sim" run --tpm 3 --hsm --fault kernel@2 -- "$0"
fi

if [[ -t 1 && -z ${CI:-} && -z ${NO_COLOR:-} ]]; then
  bold=$'\e[1m' green=$'\e[32m' dim=$'\e[2m' off=$'\e[0m'
else
  bold='' green='' dim='' off=''
fi
PATH=$BIN:$PATH
work=$(mktemp -d "${TMPDIR:-/tmp}/touchmark-demo-XXXXXX")
chmod 711 "$work"
pids=()
finish() {
  local code=$?
  for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
  for pid in "${pids[@]}"; do wait "$pid" 2>/dev/null || true; done
  if ((code != 0)); then
    echo "${bold}the demo did not hold${off}; the last lines of the logs:" >&2
    tail -n 5 "$work"/*.log >&2 2>/dev/null || true
  fi
  rm -rf "$work"
  exit "$code"
}
trap finish EXIT
trap 'exit 130' INT TERM

proved=()
step() { printf '\n%s%s%s\n' "$bold" "$1" "$off"; }
run() { printf '%s$ %s%s\n' "$dim" "$*" "$off"; "$@"; }
shown() { printf '%s  ok%s  %s\n' "$green" "$off" "$1"; proved+=("$1"); }
wrong() { echo "touchmark demo: $1" >&2; exit 1; }
until_true() { # what, command...
  local what=$1 tries=600
  shift
  until "$@" >/dev/null 2>&1; do
    ((tries-- > 0)) || wrong "$what did not happen within a minute"
    sleep 0.1
  done
}
free_port() {
  local port
  for _ in {1..200}; do
    port=$((20000 + RANDOM % 12000))
    if ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then echo "$port"; return; fi
  done
  wrong "no free port"
}
sim() { jq -r "$1" "$TOUCHMARK_SIM/sim.json"; }
unb64u() { local text=$1; while ((${#text} % 4)); do text+='='; done; basenc --base64url -d <<<"$text"; }
hex_of() { unb64u "$1" | basenc --base16 -w0; }

attest=127.0.0.1:$(free_port)
hosts=127.0.0.1:$(free_port)
export TOUCHMARK_ADMIN_SOCKET=$work/admin.sock

step "1. An offline root and the service's intermediate, both keys made in an HSM (SoftHSM): one token each"
cat >"$work/server.toml" <<TOML
trust_domain = "spiffe://example.org"
state = "$work/server"
[listen]
attest = "$attest"
hosts = "$hosts"
[admin]
socket = "$TOUCHMARK_ADMIN_SOCKET"
[device]
tcti = "$(sim '.tpms[2].tcti')"
[hsm]
module = "$(sim '.hsms[0].module')"
token = "pkcs11:token=$(sim '.hsms[0].token')"
pin_file = "$(sim '.hsms[0].pin_file')"
[keys]
intermediate = "hsm"
[ima]
enabled = true
[[tpm.maker]]
name = "simulated"
roots = "$(sim '.tpms[0].maker_root')"
kind = "physical"
simulated = true
TOML
chmod 644 "$work/server.toml"
# The root's token is another one, as if it stood in a safe.
root_hsm=(--hsm-module "$(sim '.hsms[1].module')" --hsm-token "pkcs11:token=$(sim '.hsms[1].token')" --hsm-pin-file "$(sim '.hsms[1].pin_file')")
root_conf=$(sim '.hsms[1].conf')
offline() { SOFTHSM2_CONF=$root_conf run "$@"; }
offline touchmark ca init --dir "$work/root" --trust-domain spiffe://example.org "${root_hsm[@]}"
run touchmark ca request --config "$work/server.toml" --out "$work/request.pem"
offline touchmark ca sign-intermediate --dir "$work/root" "${root_hsm[@]}" --yes --out "$work/intermediate.pem" \
  --transcript "$work/transcript.txt" "$work/request.pem"
run touchmark ca install --config "$work/server.toml" --root "$work/root/root.pem" --certificate "$work/intermediate.pem"
pin=$(touchmark ca show --config "$work/server.toml" --output json | jq -r .root.pin)
run cat "$work/server/keys/intermediate.uri"
echo "${dim}\$ pkcs11-tool --module $(sim '.hsms[0].module') --token-label $(sim '.hsms[0].token') --login --list-objects${off}"
pkcs11-tool --module "$(sim '.hsms[0].module')" --token-label "$(sim '.hsms[0].token')" --login \
  --pin "$(cat "$(sim '.hsms[0].pin_file')")" --list-objects 2>/dev/null | tee "$work/objects.txt" | grep -v '^Using slot'
grep -q 'Access: *sensitive, always sensitive, never extract' "$work/objects.txt" || wrong "the intermediate's key could leave its token"
openssl verify -CAfile "$work/root/root.pem" "$work/intermediate.pem" >/dev/null || wrong "the chain does not verify"
digest=$(openssl x509 -in "$work/intermediate.pem" -outform DER | sha256sum | cut -d' ' -f1)
grep -q "$digest" "$work/transcript.txt" || wrong "the transcript tells of another certificate"
shown "the authority's keys were made in tokens and never could leave them, as pkcs11-tool sees it; on disk is only where they are"

step "2. The service starts; two hosts are enrolled by the certificates that their TPMs' maker signed"
touchmark server run --config "$work/server.toml" 2>"$work/server.log" &
pids+=($!)
until_true "the service's start" touchmark host list
for n in 1 2; do
  mapfile -t certificates < <(sim ".tpms[$((n - 1))].ek_certs[]")
  run touchmark host enrol --name "host-$n" --ek-cert "${certificates[0]}" --ek-cert "${certificates[1]}"
  cat >"$work/agent$n.toml" <<TOML
trust_domain = "spiffe://example.org"
root_pins = ["$pin"]
state = "$work/agent$n"
socket = "$work/agent$n.sock"
[server]
attest = "$attest"
hosts = "$hosts"
[device]
tcti = "$(sim ".tpms[$((n - 1))].tcti")"
[tpm]
eventlog = "$(sim ".tpms[$((n - 1))].eventlog")"
ima = "$(sim ".tpms[$((n - 1))].ima")"
TOML
  chmod 644 "$work/agent$n.toml"
  touchmark agent run --config "$work/agent$n.toml" 2>"$work/agent$n.log" &
  pids+=($!)
done
state_is() { [[ $(touchmark host list --output json | jq -r ".[] | select(.name == \"$1\") | .state") == "$2" ]]; }
until_true "host-1's first attestation" state_is host-1 refused
until_true "host-2's first attestation" state_is host-2 refused
run touchmark host list
shown "both TPMs are genuine, but without reference values no boot is trusted"

step "3. The operator takes host-1's boot as good; its next try is admitted"
run touchmark allowlist apply --label debian-12 --file "$(sim .known_files)"
echo "${dim}\$ touchmark reference capture host-1 --label release-2026-11 > good.toml${off}"
touchmark reference capture host-1 --label release-2026-11 >"$work/good.toml"
run touchmark reference apply --file "$work/good.toml"
until_true "host-1's admission" state_is host-1 attested
second_opinion() { touchmark why host-2 --output json | jq -e '.reason == "reference_mismatch"'; }
until_true "host-2's second refusal" second_opinion
run touchmark host list
shown "host-1 is attested: quote, certified key and every event of its boot log hold"

step "4. host-2 booted another kernel: refused, and the operator is told which event"
run touchmark why host-2
touchmark why host-2 --output json | jq -e '.found | contains("PCR 4: /boot/vmlinuz-6.1.0-31-amd64")' >/dev/null ||
  wrong "the refusal does not name the kernel"
shown "host-2 is refused, by the name of the kernel that is not among the good ones"
second_log=$(sim '.tpms[1].eventlog')
run touchmark verify eventlog "$second_log" --reference "$work/good.toml" >"$work/story" && wrong "the log matches"
grep -E '^(Secure Boot|Kernel|Command line|!)|vmlinuz' "$work/story"
grep -q '^! .*vmlinuz-6.1.0-31-amd64' "$work/story" || wrong "the story does not mark the kernel"
grep -q '^! .*Firmware' "$work/story" && wrong "the story marks what is the same"
shown "the same log, appraised offline, tells how host-2 booted and marks what differs"
touchmark reference capture host-2 --label release-2026-11 >"$work/next.toml"
run touchmark reference apply --file "$work/next.toml" --stage
run touchmark reference diff release-2026-11 release-2026-11@2
touchmark reference diff release-2026-11 release-2026-11@2 --output json |
  jq -e '[.only_right[].description] | any(contains("vmlinuz-6.1.0-31"))' >/dev/null || wrong "the kernel is no difference"
state_is host-2 refused || wrong "a staged set decided"
shown "the other kernel's values are staged and compared event by event; they decide nothing"
cat >"$work/fleet.cedar" <<CEDAR
@id("measured-good") permit (principal, action == Touchmark::Action::"attest", resource)
when { !context.references.matched.isEmpty() };
@id("secure-boot")
@reason("Secure Boot has to be on")
@remedy("switch Secure Boot on")
forbid (principal, action == Touchmark::Action::"attest", resource)
unless { context has boot && context.boot.secure_boot == "on" };
@id("known-files")
@reason("every file that runs has to be of a known package")
forbid (principal, action == Touchmark::Action::"attest", resource)
unless { context has ima && context.ima.entries > 0 && context.ima.unknown == 0 };
CEDAR
run touchmark policy check "$work/fleet.cedar"
run touchmark policy apply --file "$work/fleet.cedar" --dry-run
run touchmark policy apply --file "$work/fleet.cedar"
echo 'permit (principal, action, resource) when { context.boot.secure_boot == 1 };' >"$work/broken.cedar"
if run touchmark policy apply --label fleet --file "$work/broken.cedar"; then wrong "a broken policy was applied"; fi
run touchmark policy explain host-1
touchmark policy list --output json | jq -e 'length == 1 and .[0].policies == 3' >/dev/null || wrong "the old set did not stay"
shown "policies decide by what was measured; one that does not validate is refused and the old set stays"
touchmark policy explain host-1 --output json | jq '.claims | with_entries(select(.key | startswith("ima.")))'
touchmark policy explain host-1 --output json |
  jq -e '.claims["ima.entries"] > 20 and .claims["ima.unknown"] == 0 and .claims["ima.boot_aggregate"] == "matches"' >/dev/null ||
  wrong "the files that run are not known"
shown "every file that host-1 has run so far is of a known package, by a list that leads to its register 10"

step "5. A process on host-1 gets an X.509 credential and a WIT; their keys are in its TPM"
cat >"$work/registration.toml" <<TOML
label = "demo"
[[registration]]
name = "api"
identifier = "spiffe://example.org/demo/api"
host = { names = ["host-1"] }
workload = { uid = $(id -u), exe = "$(readlink -f "$BIN/touchmark")" }
kinds = ["x509", "wit"]
custody = ["hardware"]
dns_names = ["api.example.org"]
TOML
run touchmark registration apply --file "$work/registration.toml"
export TOUCHMARK_AGENT_SOCKET=$work/agent1.sock
run touchmark workload fetch x509 | sed -n 1,4p
touchmark workload fetch x509 --output json >"$work/x509.json"
touchmark workload prove --audience https://peer.example.org/ --output json >"$work/proof.json"
shown "identified by user and executable, the process holds spiffe://example.org/demo/api"

step "6. A process without a registration gets nothing"
cp "$BIN/touchmark" "$work/impostor"
if "$work/impostor" workload fetch x509 >"$work/impostor.out" 2>&1; then wrong "the impostor got an identity"; fi
cat "$work/impostor.out"
shown "the same user with another executable is refused"

step "7. Outside judges: OpenSSL and tpm2-tools"
jq -r .chain_pem "$work/x509.json" >"$work/chain.pem"
jq -r .bundle_pem "$work/x509.json" >"$work/bundle.pem"
run openssl verify -CAfile "$work/bundle.pem" -untrusted "$work/chain.pem" "$work/chain.pem"
run openssl x509 -in "$work/chain.pem" -noout -ext subjectAltName
shown "OpenSSL verifies the chain up to the offline root; the identifier is its one URI"

wit=$(jq -r .wit "$work/proof.json") wpt=$(jq -r .wpt "$work/proof.json")
jwk=$(unb64u "$(cut -d. -f2 <<<"$wit")" | jq -c .cnf.jwk)
x=$(hex_of "$(jq -r .x <<<"$jwk")") y=$(hex_of "$(jq -r .y <<<"$jwk")")
basenc --base16 -d <<<"3059301306072A8648CE3D020106082A8648CE3D03010703420004$x$y" >"$work/wit-key.der"
openssl pkey -pubin -inform DER -in "$work/wit-key.der" -out "$work/wit-key.pem"
signature=$(hex_of "$(cut -d. -f3 <<<"$wpt")")
printf 'asn1=SEQUENCE:sig\n[sig]\nr=INTEGER:0x%s\ns=INTEGER:0x%s\n' "${signature:0:64}" "${signature:64}" >"$work/sig.conf"
openssl asn1parse -genconf "$work/sig.conf" -noout -out "$work/wpt.sig"
cut -d. -f1,2 <<<"$wpt" | tr -d '\n' >"$work/wpt.input"
run openssl dgst -sha256 -verify "$work/wit-key.pem" -signature "$work/wpt.sig" "$work/wpt.input"
shown "OpenSSL verifies the proof (WPT) under the key that the WIT names"

handle=$(jq -r .key.handle "$work/x509.json")
key=$work/agent1/keys/$handle.tss2
pem_body() { sed -e '/-----/d' "$1" | base64 -d; }
pem_body "$key" >"$work/key.der"
offsets=$(openssl asn1parse -inform DER -in "$work/key.der" | awk -F: '/OCTET STRING/ {print $1 + 0}' | tail -n 2)
for pair in "$(head -n 1 <<<"$offsets"):pub" "$(tail -n 1 <<<"$offsets"):priv"; do
  at=${pair%:*}
  read -r header length < <(openssl asn1parse -inform DER -in "$work/key.der" -offset "$at" |
    sed -n '1s/.*hl=\([0-9]*\) l= *\([0-9]*\).*/\1 \2/p')
  tail -c "+$((at + header + 1))" "$work/key.der" | head -c "$length" >"$work/key.${pair#*:}"
done
export TPM2TOOLS_TCTI
TPM2TOOLS_TCTI=$(sim '.tpms[0].tcti')
# The storage primary that every TSS2 PRIVATE KEY file with an owner parent presupposes.
tpm2_createprimary -Q -C o -g sha256 -G ecc -c "$work/storage.ctx" \
  -a 'fixedtpm|fixedparent|sensitivedataorigin|userwithauth|noda|restricted|decrypt'
tpm2_load -Q -C "$work/storage.ctx" -u "$work/key.pub" -r "$work/key.priv" -c "$work/key.ctx"
run tpm2_readpublic -c "$work/key.ctx" -f pem -o "$work/tpm-key.pem" | grep --no-group-separator -A1 -E '^attributes|^.{0,4}\$ '
openssl x509 -in "$work/chain.pem" -noout -pubkey >"$work/certified.pem"
cmp -s <(openssl pkey -pubin -in "$work/tpm-key.pem" -outform DER) \
  <(openssl pkey -pubin -in "$work/certified.pem" -outform DER) || wrong "the certificate is for another key"
tpm2_readpublic -c "$work/key.ctx" | grep -q 'fixedtpm|fixedparent|sensitivedataorigin' || wrong "the key is not fixed"
export TPM2TOOLS_TCTI
TPM2TOOLS_TCTI=$(sim '.tpms[1].tcti')
tpm2_createprimary -Q -C o -g sha256 -G ecc -c "$work/other.ctx" \
  -a 'fixedtpm|fixedparent|sensitivedataorigin|userwithauth|noda|restricted|decrypt'
if tpm2_load -Q -C "$work/other.ctx" -u "$work/key.pub" -r "$work/key.priv" -c "$work/stolen.ctx" 2>/dev/null; then
  wrong "another TPM loaded the key"
fi
shown "tpm2-tools load the certified key into host-1's TPM only, and show it fixed there since its making"

example() { readlink -f "$BIN/examples/$1"; }
cat >"$work/calls.toml" <<TOML
label = "calls"
[[registration]]
name = "api"
identifier = "spiffe://example.org/calls/api"
workload = { uid = $(id -u), exe = "$(example axum_server)" }
kinds = ["x509", "wit"]
custody = ["hardware"]
[[registration]]
name = "web"
identifier = "spiffe://example.org/calls/web"
workload = { uid = $(id -u), exe = "$(example http_client)" }
kinds = ["x509", "wit"]
custody = ["hardware"]
[[registration]]
name = "web-captured"
identifier = "spiffe://example.org/calls/web-captured"
workload = { uid = $(id -u), exe = "$(example replayed_client)" }
kinds = ["x509", "wit"]
custody = ["hardware"]
[[registration]]
name = "web-steady"
identifier = "spiffe://example.org/calls/web-steady"
workload = { uid = $(id -u), exe = "$(example steady_client)" }
kinds = ["x509", "wit"]
custody = ["hardware"]
[[registration]]
name = "batch"
identifier = "spiffe://example.org/calls/batch"
workload = { uid = $(id -u), exe = "$(example reqwest_client)" }
kinds = ["x509", "wit"]
custody = ["hardware"]
TOML
named=spiffe://example.org/calls

step "8. Two workloads call each other: mutual TLS with both keys in the TPM, then a WIT with its proof on top"
run touchmark registration apply --file "$work/calls.toml"
serve=127.0.0.1:$(free_port)
"$(example axum_server)" "$serve" "$named/web" "$named/web-captured" "$named/web-steady" >"$work/api.out" 2>"$work/api.log" &
pids+=($!)
until_true "the server's start" grep -q listens "$work/api.out"
cat "$work/api.out"
run "$(example http_client)" "$named/api" "https://$serve/" "https://$serve/proved" | tee "$work/web.out"
grep -q "200 OK: hello, $named/web" "$work/web.out" || wrong "the call over mutual TLS did not succeed"
grep -q "200 OK: proved, $named/web" "$work/web.out" || wrong "the call with a proof did not succeed"
shown "the server knows its caller by identifier, from the certificate and from the proof; no key file exists"

step "9. A third workload, below the same root, is refused by its identifier"
if run "$(example reqwest_client)" "$named/api" "https://$serve/" >"$work/batch.out" 2>&1; then wrong "the third got in"; fi
reason() { until_true "the reason in the log" grep -q "$1" "$work/api.log"; sed 's/\x1b\[[0-9;]*m//g' "$work/api.log" | grep "$1" | tail -n 1 | sed 's/^[^ ]* */    the server'"'"'s log: /'; }
reason "a client was not accepted"
shown "$named/batch is authentic, and nobody whom the server accepts"

step "10. A captured request, sent again just as it was"
run "$(example replayed_client)" "$named/api" "https://$serve/proved" | tee "$work/replay.out"
grep -q "as it was sent: 200" "$work/replay.out" || wrong "the request itself was refused"
grep -q "replayed: 401" "$work/replay.out" || wrong "the replay was not refused"
reason "a request was refused"
shown "the proof was good for one request"

step "11. host-1 is evicted while its workloads call each other"
"$(example steady_client)" "$named/api" "https://$serve/" >"$work/steady.out" 2>"$work/steady.log" &
steady=$!
pids+=("$steady")
until_true "the first call" grep -q calling "$work/steady.out"
began=$(date +%s%3N)
run touchmark host evict host-1 --reason "shown in the demo"
wait "$steady" || wrong "the steady caller failed"
ended=$(date +%s%3N)
tail -n 1 "$work/steady.out"
if "$(example http_client)" "$named/api" "https://$serve/" >/dev/null 2>&1; then wrong "an evicted host's workload calls"; fi
run touchmark events --limit 3
shown "calls ended $((ended - began)) ms after the command was typed, and no new one begins"

printf '\n%sWhat was shown%s\n' "$bold" "$off"
printf '  - %s\n' "${proved[@]}"
