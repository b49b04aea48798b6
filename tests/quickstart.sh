#!/bin/sh
# quickstart.sh [stop] - the first minutes with wasd: starts the daemon, creates a data set, trains a network with WAS, serves it,
# classifies an image in both modes and switches the live model. Leaves the daemon running with its data under var/; "stop" stops it.
#
# WASD_LISTEN   address to listen on (127.0.0.1:8080)
# WASD_BUILD    folder of the programs (build)
#
# Needs only sh and curl: every response is one line of JSON, and the few values needed have unique keys.
set -eu
cd "$(dirname "$0")/.."
listen=${WASD_LISTEN:-127.0.0.1:8080}
program=$(readlink -f "${WASD_BUILD:-build}")/wasd
pidfile=var/wasd.pid log=var/wasd.log

die() { printf 'quickstart: %s\n' "$*" >&2; exit 1; }
say() { printf '\n\033[1m%s\033[0m\n' "$*"; }
[ -t 1 ] || say() { printf '\n%s\n' "$*"; }

# The process that this script started earlier, if it still runs. Counts even if a new build has replaced its program.
ours() {
	[ -r $pidfile ] || return 0
	read -r pid < $pidfile
	case $(readlink "/proc/$pid/exe" 2>/dev/null) in "$program"*) echo "$pid" ;; esac
}

# The address printed by the daemon.
address() { grep -o 'http://[][0-9a-zA-Z.:]*' var/wasd.out | head -n 1; }

stop() {
	pid=$(ours)
	[ -n "$pid" ] || return 1
	kill "$pid"
	n=0
	while kill -0 "$pid" 2>/dev/null; do
		n=$((n + 1))
		[ $n -lt 450 ] || die "wasd (process $pid) does not stop; see $log"
		sleep 0.1
	done
	rm -f $pidfile
}

if [ "${1:-}" = stop ]; then
	if stop; then echo "wasd has stopped; its data remain under var/data"; else echo "no wasd from this folder is running"; fi
	exit 0
fi
[ -x "$program" ] || die "$program is missing: run make first"
mkdir -p var

# ---- the daemon ----

pid=$(ours)
case $(readlink "/proc/${pid:-0}/exe" 2>/dev/null) in *' (deleted)') stop; pid= ;; esac
# Restart if WASD_LISTEN asks for another address.
if [ -n "$pid" ] && [ -n "${WASD_LISTEN:-}" ] && [ "$(address)" != "http://$listen" ]; then
	say "wasd runs at $(address); restarting it at $listen"
	stop
	pid=
fi
if [ -z "$pid" ]; then
	say "Starting wasd on $listen (data under var/data)"
	: > var/wasd.out
	setsid "$program" serve --listen "$listen" --data var/data </dev/null >>var/wasd.out 2>>$log &
	pid=$!
	echo $pid > $pidfile
	n=0
	until grep -q http:// var/wasd.out; do
		n=$((n + 1))
		if [ $n -gt 300 ] || ! kill -0 $pid 2>/dev/null; then
			rm -f $pidfile
			tail -n 3 $log >&2
			die "wasd did not start. If another program has $listen, choose another address: WASD_LISTEN=127.0.0.1:8081 make quickstart"
		fi
		sleep 0.1
	done
else
	say "wasd is already running (process $pid)"
fi
url=$(address)
[ -n "$url" ] || die "var/wasd.out does not say where wasd listens: run 'make stop' and try again"

# ---- requests ----

answer=
# ask METHOD PATH [JSON]: stores the response body in $answer; an error ends the script and prints the daemon's message.
ask() {
	method=$1 path=$2
	shift 2
	[ $# -eq 0 ] || set -- -H 'Content-Type: application/json' -d "$1"
	answer=$(curl -sS -X "$method" "$@" -w '\n%{http_code}' "$url$path") || die "$method $path: no answer; see $log"
	code=${answer##*
}
	answer=${answer%
*}
	case $code in 2*) ;; *) die "$method $path: $code $answer" ;; esac
}
has() { [ "$(curl -s -o /dev/null -w '%{http_code}' "$url$1")" = 200 ]; }
# value KEY: the first string or number with that key in $answer.
value() { printf '%s' "$answer" | grep -o "\"$1\":\"\{0,1\}[^\",}]*" | head -n 1 | sed 's/^"[^"]*":"\{0,1\}//'; }
percent() { LC_ALL=C awk -v v="${1:-0}" 'BEGIN { printf "%.1f %%", 100 * v }'; }
millions() { LC_ALL=C awk -v v="${1:-0}" 'BEGIN { printf "%.2f M", v / 1e6 }'; }

# ---- data ----

if has /v1/datasets/glyphs-6000; then
	say "The data set glyphs-6000 exists already"
else
	say "Creating a data set: 6,000 + 500 distorted digits, 32x32, ten classes"
	ask POST /v1/datasets '{"name":"glyphs-6000","synthetic":{"kind":"glyphs","train":6000,"test":500,"seed":1}}'
fi
ask GET '/v1/datasets/glyphs-6000?wait=60s'
[ "$(value state)" = ready ] || die "the data set is $(value state): $answer"

# ---- training ----

say "Training LeNet with weight augmentation: every pass randomly shifts or crops the kernels of both convolutions
(AOM, accuracy-oriented: the plain weights; DOM, desire-oriented: shifted or cropped weights, with fewer multiply-adds)"
ask POST /v1/jobs '{"name":"quickstart","dataset":"glyphs-6000","model":{"arch":"lenet"},"was":{"layers":"all","alpha":"fixed"},
	"train":{"epochs":20,"batch":64,"seed":3,"optimizer":{"type":"adamw","lr":0.003},"schedule":{"type":"cosine","warmup_epochs":1}}}'
job=$(value id)
echo "job $job; live curves: $url/#$job"
shown=0 state=queued
# Every change of the job ends the wait; then print the new epochs.
while :; do
	ask GET "/v1/jobs/$job/metrics?format=csv&names=train_loss,val_acc_aom,val_acc_dom"
	printf '%s\n' "$answer" | LC_ALL=C awk -F, -v shown=$shown '
		{ v[$1, $4] = $6 + 0; if ($4 + 0 > last) last = $4 + 0 }
		END { for (e = shown + 1; e <= last; e++)
			printf "  epoch %2d   training loss %.3f   validation accuracy %5.1f %% in AOM, %5.1f %% in DOM\n", e, v["train_loss", e], 100 * v["val_acc_aom", e], 100 * v["val_acc_dom", e] }'
	shown=$(printf '%s\n' "$answer" | awk -F, '$4 + 0 > last { last = $4 + 0 } END { print last + 0 }')
	case $state in
	completed) break ;;
	failed | cancelled) die "the job is $state; its log: curl $url/v1/jobs/$job/logs" ;;
	esac
	ask GET "/v1/jobs/$job?wait=10s&until=change"
	state=$(value state)
done

# The validation images chose the best epoch; the test images had no influence.
ask GET "/v1/jobs/$job?fields=best"
printf '  best epoch %s   test accuracy %s in AOM, %s in DOM\n' "$(value epoch)" "$(percent "$(value test_acc_aom)")" "$(percent "$(value test_acc_dom)")"

# ---- serving ----

say "Serving its best checkpoint as \"quickstart\""
if has /v1/deployments/quickstart; then
	ask DELETE /v1/deployments/quickstart
	while has /v1/deployments/quickstart; do sleep 0.1; done
fi
ask POST /v1/deployments "{\"name\":\"quickstart\",\"source\":{\"job\":\"$job\",\"follow\":\"best\"},\"mode\":\"aom\"}"
ask GET '/v1/deployments/quickstart?wait=30s'
[ "$(value state)" = ready ] || die "the deployment is $(value state): $answer"

curl -sS -o var/digit.png "$url/v1/datasets/glyphs-6000/preview?split=test&i=5"
classify() {
	answer=$(curl -sS -H 'Content-Type: image/png' --data-binary @var/digit.png "$url/v1/deployments/quickstart/classify?k=1")
	printf '  %s, generation %s: "%s" with %s, %s multiply-adds\n' "$(value mode | tr a-z A-Z)" "$(value generation)" "$(value label)" "$(percent "$(value p)")" "$(millions "$(value macs)")"
}
say "Classifying var/digit.png, then switching the live model to DOM and back to AOM"
classify
ask PUT /v1/deployments/quickstart/mode '{"mode":"dom","reason":"quickstart"}'
classify
ask PUT /v1/deployments/quickstart/mode '{"mode":"aom","reason":"quickstart"}'
classify

say "Dashboard: $url/   (wasd keeps running; 'make stop' stops it)"
cat <<END
Next:
  curl -T var/digit.png '$url/v1/deployments/quickstart/classify?k=3'
  curl -X PUT -d '{"mode":"dom"}' $url/v1/deployments/quickstart/mode
  curl '$url/v1/jobs/$job/metrics?names=val_acc_aom,test_acc_aom,test_acc_dom'
END
