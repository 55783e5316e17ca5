#!/bin/sh
# One Kafka broker (KRaft) in the foreground: fetch it once, format its storage once, start it.
# With the word `fetch`: fetch it, no more.
# KAFKA_PORT 9092, KAFKA_CONTROLLER_PORT 9093, KAFKA_DATA .sluice/kafka, KAFKA_LIBS .bin/kafka, KAFKA_HEAP 512m,
# KAFKA_PROPERTIES: a file of more properties, which go before those below.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
port=${KAFKA_PORT:-9092}
controller=${KAFKA_CONTROLLER_PORT:-9093}
data=${KAFKA_DATA:-$root/.sluice/kafka}
libs=${KAFKA_LIBS:-$root/.bin/kafka}
heap=${KAFKA_HEAP:-512m}

for program in java mvn; do
  command -v "$program" >/dev/null || {
    echo "$program is missing; with a container engine: docker compose -f deploy/kafka/compose.yml up" >&2
    exit 1
  }
done

# What was fetched before a failure is kept by Maven, so that another try goes on from there.
fetch() {
  for pause in 2 10 30; do
    mvn -q -B -U -f "$here/pom.xml" dependency:copy-dependencies \
      -DincludeScope=runtime -DoutputDirectory="$libs" >&2 && return
    echo "fetching Kafka failed, again in $pause s" >&2
    sleep "$pause"
  done
  mvn -B -U -f "$here/pom.xml" dependency:copy-dependencies \
    -DincludeScope=runtime -DoutputDirectory="$libs" >&2
}

# One at a time fetches: a second one would take the first one's files away.
mkdir -p "${libs%/*}"
exec 9>"$libs.lock"
flock 9
if [ ! -f "$libs/.done" ] || [ "$here/pom.xml" -nt "$libs/.done" ]; then
  echo "fetching Kafka into $libs"
  rm -rf "$libs"
  fetch
  touch "$libs/.done"
fi
flock -u 9
exec 9>&-
[ "${1:-}" != fetch ] || exit 0

mkdir -p "$data"
# The short session lets a broker that was killed register again within seconds.
cat > "$data/server.properties" <<END
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:$controller
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://127.0.0.1:$port,CONTROLLER://127.0.0.1:$controller
advertised.listeners=PLAINTEXT://127.0.0.1:$port
log.dirs=$data/log
num.partitions=${KAFKA_PARTITIONS:-8}
offsets.topic.num.partitions=4
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
END
# Of a property that is there twice, the last counts.
[ -z "${KAFKA_PROPERTIES:-}" ] || cat "$KAFKA_PROPERTIES" >>"$data/server.properties"
# Compiled by C1 only: starts in half the time and holds less memory, which one small node needs more.
options="-Xmx$heap -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Dorg.slf4j.simpleLogger.defaultLogLevel=warn
  -Dorg.slf4j.simpleLogger.log.kafka.server.KafkaRaftServer=info"
if [ ! -f "$data/log/meta.properties" ]; then
  # shellcheck disable=SC2086 # options are words
  identity=$(java $options -cp "$libs/*" kafka.tools.StorageTool random-uuid | tail -n 1)
  java $options -cp "$libs/*" kafka.tools.StorageTool format \
    --cluster-id "$identity" --config "$data/server.properties" >/dev/null
fi
echo "Kafka on 127.0.0.1:$port, data in $data"
exec java $options -cp "$libs/*" kafka.Kafka "$data/server.properties"
