"""The peer of the bench `driver`: mini-swe-agent 2.4 on a scripted teacher, N agents at once in threads, as its own batch runner does it."""

import os
import sys
from concurrent.futures import ThreadPoolExecutor

os.environ.update(MSWEA_SILENT_STARTUP="1", MSWEA_COST_TRACKING="ignore_errors", LITELLM_LOCAL_MODEL_COST_MAP="True")

from minisweagent.agents.default import DefaultAgent
from minisweagent.environments.local import LocalEnvironment
from minisweagent.models.litellm_model import LitellmModel

url, count = sys.argv[1], int(sys.argv[2])


def roll_out(number):
    model = LitellmModel(model_name="openai/some-model", cost_tracking="ignore_errors", model_kwargs={"api_base": url, "api_key": "none"})
    agent = DefaultAgent(
        model,
        LocalEnvironment(),
        system_template="You are a careful engineer.",
        instance_template="{{task}}",
        step_limit=0,
        cost_limit=0,
    )
    return agent.run(f"Task {number}")


with ThreadPoolExecutor(max_workers=count) as threads:
    ends = list(threads.map(roll_out, range(count)))
assert all(end.get("exit_status") == "Submitted" for end in ends), ends
