#!/bin/bash
# Starts the broker. The first time, it makes the storage with a login for each password file in
# /keys: the image's own start has no way to say so.
set -euo pipefail

kafka=/opt/kafka/bin
properties=/etc/slstream/server.properties
keys=/keys

logins=()
for file in "$keys"/*.password; do
  name=$(basename "$file" .password)
  logins+=(--add-scram "SCRAM-SHA-512=[name=$name,password=$(<"$file")]")
done

# What it prints has the salted passwords in it.
"$kafka"/kafka-storage.sh format --ignore-formatted --config "$properties" \
  --cluster-id "$CLUSTER_ID" "${logins[@]}" > /dev/null
exec "$kafka"/kafka-server-start.sh "$properties"
