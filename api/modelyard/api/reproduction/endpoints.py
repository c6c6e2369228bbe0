"""Routes of manifests and reproductions."""

import json

from fastapi import APIRouter, BackgroundTasks, Response
from sqlmodel import Session

from modelyard.api.dependencies import OnceDep, PlatformDep, Reader, Writer
from modelyard.api.jobs.schemas import JobPublic
from modelyard.api.jobs.service import ring_or_leave, show_job
from modelyard.api.reproduction.schemas import ManifestPublic, ReproductionPublic
from modelyard.domain.jobs import repository
from modelyard.domain.jobs.lifecycle import JobState
from modelyard.domain.reproduction import service
from modelyard.domain.reproduction.comparison import compare
from modelyard.kit.storage import MANIFEST, ArtifactStore

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])


@router.get("/{job_id}/manifest")
def get_manifest(job_id: str, platform: PlatformDep, caller: Reader) -> ManifestPublic:
    """What a training job ran with: spec, code, packages, seeds, digests of its inputs, hardware."""
    with platform.database.read() as session:
        job = repository.get_job_or_raise(session, caller.project_id, job_id)
        return ManifestPublic.of(service.find_manifest(session, job))


@router.post("/{job_id}/reproduce", status_code=202)
def reproduce_job(
    job_id: str, response: Response, later: BackgroundTasks, platform: PlatformDep, caller: Writer, once: OnceDep
) -> JobPublic:
    """Run a job that succeeded again, from its start, as a new job with the same spec and the same inputs."""

    def make(session: Session) -> str:
        return service.reproduce(session, repository.get_job_or_raise(session, caller.project_id, job_id)).id

    id_, is_new = once.create(caller, make)
    with platform.database.read() as session:
        job = repository.get_job_or_raise(session, caller.project_id, id_)
    if is_new:
        later.add_task(ring_or_leave, platform, [job])
    response.headers["Location"] = f"/v1/jobs/{id_}"
    return show_job(job)


@router.get("/{job_id}/reproduction")
def get_reproduction(job_id: str, platform: PlatformDep, caller: Reader) -> ReproductionPublic:
    """Whether a reproduction came out like the job it reproduces, and where they part if not."""
    with platform.database.read() as session:
        job = repository.get_job_or_raise(session, caller.project_id, job_id)
        original = service.get_original_or_raise(session, job)
        if job.state != JobState.SUCCEEDED:
            return ReproductionPublic.pending(job)
        sources = [service.read_sources(session, each) for each in (original, job)]

    def read_files(key: str) -> dict[str, str]:
        return _read_digests(platform.store, key)

    # A store may be far away: no transaction stays open meanwhile.
    first, second = (service.gather(each, found, read_files) for each, found in zip((original, job), sources, strict=True))
    return ReproductionPublic.of(job, compare(first, second))


def _read_digests(store: ArtifactStore, key: str) -> dict[str, str]:
    files = json.loads(store.read_text(key, MANIFEST))["files"]
    return {name: entry["sha256"] for name, entry in files.items()}
