"""The way out of every reason a job can wait or fail for: a closed list."""

from modelyard.domain.jobs.lifecycle import Outcome

FIXES: dict[str, str] = {
    Outcome.USER_CODE: "Read the log lines below; mend the spec or the data, then submit the job again.",
    Outcome.BAD_DATA: "Mend the rows named in the message, upload them again and submit the job with the new version.",
    Outcome.OOM_GPU: "Lower `micro_batch_size` or `sequence_length`, raise `gradient_accumulation_steps` or the ZeRO stage.",
    Outcome.OOM_HOST: "Lower `micro_batch_size`, or run on a machine with more memory.",
    Outcome.DISK_FULL: "Free space in the data directory of the worker, then `modelyard retry {id}`.",
    Outcome.NAN: "Lower `optimizer.learning_rate`, or look at the rows of the step that broke.",
    Outcome.RUNNER_LOST: "Nothing to do: the job continues by itself from its last checkpoint.",
    Outcome.NODE_LOST: "Nothing to do: the job continues by itself from its last checkpoint.",
    Outcome.HANG: "Look at the log lines below for the rank that stopped answering, then `modelyard retry {id}`.",
    Outcome.NCCL: "Look at the log lines below and at the network between the GPUs, then `modelyard retry {id}`.",
    Outcome.TIMEOUT: "Allow more time (`time_limit_seconds`, for a server `ready_within_seconds`) and submit it again; or "
    "`modelyard retry {id}`, which goes on from its checkpoint.",
    Outcome.DEPENDENCY_FAILED: "Mend what the message names, then submit again.",
    Outcome.CANCELLED: "If it was cancelled by mistake: `modelyard retry {id}`.",
    "dependency": "Wait for the steps named in the message.",
    "approval": "Approve it: `modelyard approve {id}`, or turn it down: `modelyard reject {id} --reason …`.",
    "rejected": "Ask who rejected it; then submit it again, or `modelyard retry {id}`.",
    "quota": "Wait until the project uses less, or raise its quota: `modelyard projects set NAME …` (admin).",
    "start_time": "Wait until then, or submit it again without `start_at`.",
    "backoff": "Wait; or cancel it, mend what the last attempt complained of, and submit it again.",
    "no_free_slots": "Wait, start another worker, or submit with a higher priority.",
    "gang": "Wait, or start more workers that serve this stage.",
    "workers_closed": "`modelyard worker undrain NAME` opens a drained worker, POST /v1/hosts/{name}/include an excluded host.",
    "traffic": "Send requests to the deployment: POST /v1/chat/completions.",
}
"""Reason -> what to do; `{id}` is the job's."""

PAUSED_FIX = "`modelyard resume {id}` lets it go on, `modelyard cancel {id}` ends it."
TRIAL_FIX = "Its sweep decides whether it goes on; if somebody paused it, `modelyard resume {id}`, or resume the sweep."
QUARANTINE_FIX = "It likely ends its own runner: look at the log lines below and at the memory it needs, then submit it again."
