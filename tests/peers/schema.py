"""Validates each line of standard input, a JSON document, against the JSON Schema in the file given. Prints `true` for each
that is valid, or why it is not."""

import json
import sys

from jsonschema import Draft202012Validator

with open(sys.argv[1], encoding="utf-8") as file:
    schema = json.load(file)
Draft202012Validator.check_schema(schema)
validator = Draft202012Validator(schema)
for line in sys.stdin:
    error = next(validator.iter_errors(json.loads(line)), None)
    print("true" if error is None else f"{error.json_path}: {error.message}".replace("\n", " "))
