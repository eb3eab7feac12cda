"""Reads metrics in Prometheus' text format with its own client library.

Prints one JSON object a line for each family: `name`, `type`, `help`, `samples` (name, labels, value).
"""

import json
import sys

from prometheus_client.parser import text_string_to_metric_families

for family in text_string_to_metric_families(sys.stdin.buffer.read().decode("utf-8")):
    samples = [[sample.name, sample.labels, sample.value] for sample in family.samples]
    described = {"name": family.name, "type": family.type, "help": family.documentation, "samples": samples}
    print(json.dumps(described))
