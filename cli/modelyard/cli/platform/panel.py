"""What a person sees when the platform is ready."""

from typing import Any

from rich.markup import escape
from rich.panel import Panel

from modelyard.cli.console import messages


def show_panel(ready: dict[str, Any], is_new_key: bool, is_detached: bool) -> None:
    """Show where everything is. The API key is shown once, when it was made."""
    lines = [
        f"API        {ready['api_url']}",
        f"dashboard  {ready['dashboard_url']}",
        f"Flower     {ready['flower_url']}  (user {ready['flower_user']}, password {ready['flower_password']})",
        f"data       {ready['data_dir']}",
    ]
    if is_new_key:
        lines.append(f"API key    {ready['api_key']}  (shown only now; commands on this machine find it by themselves)")
    stop = f"modelyard down --data-dir {ready['data_dir']}" if is_detached else "Ctrl-C"
    lines.append(f"stop with  {stop}")
    messages().print(Panel.fit("\n".join(escape(line) for line in lines), title="Modelyard is up"))
