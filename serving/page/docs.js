SwaggerUIBundle({ url: "openapi.json", dom_id: "#interface", tryItOutEnabled: true });
