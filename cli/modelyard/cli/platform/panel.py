"""What a person sees when the platform is ready."""

from typing import Any

from modelyard.cli.console import say


def show_panel(ready: dict[str, Any], is_new_key: bool, is_detached: bool) -> None:
    """Show where everything is. The API key is shown once, when it was made.

    No frame around it: in a narrow terminal a frame would cut off the end of a password.
    """
    say("Modelyard is up", "bold green")
    say(f"  API        {ready['api_url']}")
    say(f"  dashboard  {ready['dashboard_url']}")
    say(f"  Flower     {ready['flower_url']}  (user {ready['flower_user']}, password {ready['flower_password']})")
    say(f"  data       {ready['data_dir']}")
    if is_new_key:
        say(f"  API key    {ready['api_key']}  (shown only now; commands on this machine find it by themselves)")
    stop = f"modelyard down --data-dir {ready['data_dir']}" if is_detached else "Ctrl-C"
    say(f"  stop with  {stop}")
