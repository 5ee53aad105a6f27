"""The weather of a few cities: constant example data for exercises with forms."""

from __future__ import annotations

from typing import NamedTuple

from werkzeug.wrappers import Response

from daemons.webapp.dispatch import Form, View
from daemons.webapp.page_cache import cached_page
from daemons.webapp.rendering import render

#: Maximum characters of a city's name.
LONGEST_NAME = 100


class Weather(NamedTuple):
    """The weather of one city."""

    city: str
    condition: str
    #: In degrees Fahrenheit.
    fahrenheit: int
    #: In percent.
    humidity: int

    @property
    def temperature(self) -> str:
        """The temperature in both units."""
        return f"{self.fahrenheit}°F ({round((self.fahrenheit - 32) / 1.8)}°C)"


CITIES = {
    weather.city.lower(): weather
    for weather in (
        Weather("Atlanta, GA", "Light Rain", 64, 87),
        Weather("Boston, MA", "Overcast", 48, 71),
        Weather("Chicago, IL", "Windy", 41, 58),
        Weather("Denver, CO", "Snow", 28, 80),
        Weather("Phoenix, AZ", "Fair", 95, 12),
        Weather("Seattle, WA", "Fog", 52, 96),
    )
}

NAMES = [weather.city for weather in CITIES.values()]


def weather_of(city: str) -> Weather | None:
    """Return the weather of a city, ignoring case and extra spaces, or None."""
    town, _, state = " ".join(city[:LONGEST_NAME].lower().split()).partition(",")
    return CITIES.get(f"{town.strip()}, {state.strip()}")


@cached_page(seconds=60)
def form(request: Form) -> Response:
    """Show the empty form."""
    return _page(request, "")


def answer(request: Form) -> Response:
    """Show the weather of the requested city.  The request changes nothing, so it needs no redirect."""
    return _page(request, request.form.get("inputstring", ""), asked=True)


def _page(request: Form, city: str, asked: bool = False) -> Response:
    weather = weather_of(city)
    complaint = ""
    if asked and not city.strip():
        complaint = "Write a city and its state, as in Phoenix, AZ."
    elif asked and weather is None:
        complaint = "There is no weather station in this city."
    status = 422 if not city.strip() else 404
    shown = {"weather": weather, "city": city[:LONGEST_NAME], "complaint": complaint, "names": NAMES}
    return render(request, "weather.html", status if complaint else 200, **shown)


#: The second path is the one that weather.gov once used.
TABLE: dict[str, dict[str, View]] = {"/weather": {"GET": form}, "/zipcity.php": {"POST": answer}}
