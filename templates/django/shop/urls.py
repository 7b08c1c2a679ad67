from django.contrib.auth import models
from django.http import HttpRequest, HttpResponse
from django.urls import path


def home(_request: HttpRequest) -> HttpResponse:
    return HttpResponse(f"Hello: {models.User.objects.count()} users")


urlpatterns = [path("", home)]
