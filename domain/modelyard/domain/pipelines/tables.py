"""Table of pipelines; their parts are jobs."""

from sqlmodel import Field, SQLModel

from modelyard.domain.columns import time_field
from modelyard.domain.projects.tables import PROJECT_ID

PIPELINE_ID = "pipeline.id"


class Pipeline(SQLModel, table=True):
    """Jobs that belong together. Its state is derived from theirs and kept here for listing."""

    __tablename__ = "pipeline"

    id: str = Field(primary_key=True)
    project_id: str = Field(foreign_key=PROJECT_ID, index=True)
    name: str
    state: str
    """`running`, `succeeded`, `failed` or `cancelled`."""
    reuse: bool = False
    """Whether steps whose spec and inputs did not change take over the outputs of an earlier job."""
    created_at: float = time_field(nullable=False)
    finished_at: float | None = time_field()
