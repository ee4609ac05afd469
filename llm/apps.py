"""The one door to every model."""
from django.apps import AppConfig
from django.db.models.signals import post_delete, post_save


class LlmConfig(AppConfig):
    name = "llm"
    verbose_name = "Models"

    def ready(self) -> None:
        """A budget or price that this process changes is heeded by it at once, and by the others within a second."""
        from llm.in_force import IN_FORCE

        for model in ("Budget", "Price"):
            for changed in (post_save, post_delete):
                changed.connect(IN_FORCE.forget, sender=self.get_model(model), dispatch_uid="in_force")
