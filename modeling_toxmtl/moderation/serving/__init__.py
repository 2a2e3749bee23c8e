"""The service `toxmtl serve`."""
