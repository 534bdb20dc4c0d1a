"""What watches the service: Prometheus' rules with their tests, and Grafana's dashboards, generated from here."""
