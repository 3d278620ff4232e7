"""Reads a fleet as a stranger does: paho-mqtt, JSON, the published schema, nothing of limpet.

Arguments: port of the broker, fleet, file with the JSON Schema of the messages, file with the
schema of Home Assistant's discovery. Prints one JSON object and ends when every node has told all.
"""
import json
import sys
import time

import jsonschema
import paho.mqtt.client as mqtt

port, fleet, schema_file, discovery_file = sys.argv[1:5]
schema = json.load(open(schema_file))
discovery_schema = json.load(open(discovery_file))
nodes, devices, problems = {}, {}, []


def check(value, of):
    try:
        jsonschema.validate(value, of, cls=jsonschema.Draft202012Validator)
    except jsonschema.ValidationError as error:
        problems.append(f"{list(error.absolute_path)}: {error.message}")


def on_message(client, userdata, message):
    value = json.loads(message.payload)
    levels = message.topic.split("/")
    if levels[0] == "homeassistant":
        check(value, discovery_schema)
        devices[message.topic] = value
        return
    node, kind = levels[3], levels[4]
    check(value, {"$ref": f"#/$defs/{kind}", "$defs": schema["$defs"]})
    nodes.setdefault(node, {}).setdefault(kind, []).append(value)


client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
client.on_message = on_message
client.connect("127.0.0.1", int(port))
client.subscribe([(f"limpet/v1/{fleet}/+/+", 1), ("homeassistant/device/+/config", 1)])
client.loop_start()
end = time.monotonic() + 20
while time.monotonic() < end and not any("evt" in kinds for kinds in nodes.values()):
    print("ready", file=sys.stderr, flush=True)
    time.sleep(0.3)
client.loop_stop()
print(json.dumps({"nodes": nodes, "devices": devices, "problems": problems}))
